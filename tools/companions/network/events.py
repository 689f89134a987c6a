"""Notifies compute of changes of servers' ports and floating addresses, like Neutron's notifier.

A thread of its own sends the events after the write is answered: compute may be calling this service at that moment.
An event that can't be sent is logged and dropped; hosts read their servers' ports from time to time anyway.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cell_service.db.sql.engine import Database
from cell_service.errors import PolycellError
from cell_service.logs import about
from tools.companions.network import store
from tools.companions.network.nouns import Noun

log = logging.getLogger(__name__)

Record = dict[str, Any]
Event = dict[str, str]
Notify = Callable[[list[Event]], None]
"""Passes events on to compute. Raises PolycellError."""
CHANGED = "network-changed"
SHOWN = ("fixed_ips", "security_groups", "mac_address")
"""The fields of a port that servers show, or need to know."""
AT_ONCE = 100


class Notifier:
    """A queue of events, and the thread that passes them on."""

    def __init__(self, notify: Notify, db: Database) -> None:
        self._notify, self._db = notify, db
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, name="network-events", daemon=True)
        self._thread.start()

    def ports(self, noun: Noun) -> Noun:
        """Ports: a change of one that a server has is notified."""

        def changed(old: Record, new: Record) -> None:
            if new and old.get("device_id") == new["device_id"] and any(old[name] != new[name] for name in SHOWN):
                self._waiting.put(new["id"])

        return replace(noun, changed=changed)

    def floating(self, noun: Noun) -> Noun:
        """Floating addresses: the ports that one has led to, and leads to now, are notified."""

        def changed(old: Record, new: Record) -> None:
            places = {old.get("port_id"): old.get("fixed_ip_address"), new.get("port_id"): new.get("fixed_ip_address")}
            if old.get("port_id") == new.get("port_id") and old.get("fixed_ip_address") == new.get("fixed_ip_address"):
                return
            for port_id in filter(None, places):
                self._waiting.put(port_id)

        return replace(noun, changed=changed)

    def stop(self) -> None:
        """Close after the events that wait have been passed on."""
        self._waiting.put(None)
        self._thread.join(10)

    def _pass_on(self) -> None:
        while (first := self._waiting.get()) is not None:
            ports = [first]
            ended = False
            while len(ports) < AT_ONCE and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    ended = True
                    break
                ports.append(following)
            try:
                events = self._events(list(dict.fromkeys(ports)))
                if events:
                    self._notify(events)
            except PolycellError as error:
                log.warning("compute not notified of ports", extra=about(None, ports=ports, reason=error))
            if ended:
                return

    def _events(self, port_ids: list[str]) -> list[Event]:
        with self._db.connect() as tx:
            found = [store.find(tx, "port", port_id) for port_id in port_ids]
        return [
            {"name": CHANGED, "server_uuid": port["device_id"], "tag": port["id"]}
            for port in found
            if port is not None and port["device_id"] and str(port["device_owner"]).startswith("compute:")
        ]
