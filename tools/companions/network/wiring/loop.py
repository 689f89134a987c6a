"""The loop that makes what should be: one thread that owns all namespaces, children and rules.

It checks everything every few seconds, and at once when a record has changed. A request that is answered only when its
record is wired waits for the end of a pass that begins after the record was written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import PolycellError, WiringFailed
from cell_service.logs import about
from tools.companions.network import store
from tools.companions.network.wiring.hosts import HostWiring, living_hosts
from tools.companions.network.wiring.metadata import MetadataProxy, Upstream
from tools.companions.network.wiring.plan import NetworkPlan, WiringPlan, bridge_name, read_plan
from tools.companions.network.wiring.service import NetworkService
from tools.companions.network.wiring.settings import WiringSettings
from tools.companions.network.wiring.uplink import Uplink

log = logging.getLogger(__name__)
WAIT_SECONDS = 25.0
THOROUGH_SECONDS = 30.0
PROGRAMS = ("ip", "nft", "iptables-restore", "ip6tables-restore", "dnsmasq", "nsenter", "setpriv")
MakeDhcpPort = Callable[[Connection, str], None]


class Wiring:
    """`make_dhcp_port` writes the port that a network's DHCP server has, in the transaction given."""

    def __init__(self, settings: WiringSettings, db: Database, directory: Path, make_dhcp_port: MakeDhcpPort) -> None:
        self._settings, self._db, self._directory = settings, db, directory
        self._make_dhcp_port = make_dhcp_port
        self._hypervisors = Path(settings.hypervisors)
        self._hosts: dict[str, HostWiring] = {}
        self._services: dict[str, NetworkService] = {}
        self._uplink = Uplink(settings.name, directory)
        self._failed: dict[str, str] = {}
        """Host or network → why it is not as it should be."""
        self._round = threading.Condition()
        self._requested, self._done, self._ending = 0, 0, False
        self._thorough_at = 0.0
        self._thread = threading.Thread(target=self._run, name="wiring", daemon=True)

    def start(self) -> None:
        """Raises WiringFailed where there are no rights or programs for it."""
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if missing or os.geteuid() != 0:
            raise WiringFailed(reason=f"programs missing: {', '.join(missing)}" if missing else "only root may do it")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._uplink.sweep()
        self._thread.start()

    def stop(self) -> None:
        """End all that we run; what is inside the hosts' namespaces stays until they end."""
        with self._round:
            self._ending = True
            self._round.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # -- what the records need ---------------------------------------------------------------------

    def wires(self, host: str) -> bool:
        """Whether the host has a namespace of its own now."""
        return host in living_hosts(self._hypervisors)

    def details(self, network_id: str) -> dict[str, Any]:
        """The details of a binding on such a host."""
        return {"port_filter": True, "connectivity": "l2", "bridge_name": bridge_name(network_id)}

    def trigger(self) -> None:
        """Start a pass, for a record has changed."""
        with self._round:
            self._requested += 1
            self._round.notify_all()

    def settle(self, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Wait until a pass over the records as they are now has ended. Answers those of these (network, host) that
        are not as they should be, with why."""
        until = time.monotonic() + WAIT_SECONDS
        with self._round:
            self._requested += 1
            mine = self._requested
            self._round.notify_all()
            while self._done < mine:
                left = until - time.monotonic()
                if left <= 0 or self._ending:
                    return dict.fromkeys(places, "the wiring does not get done")
                self._round.wait(left)
            failed = dict(self._failed)
        reasons = {(network, host): failed.get(network) or failed.get(host) for network, host in places}
        return {place: reason for place, reason in reasons.items() if reason}

    @property
    def dhcp_servers(self) -> dict[str, int | None]:
        """Network → its dnsmasq's process id."""
        return {network: service.dhcp.pid for network, service in list(self._services.items())}

    # -- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._round:
                if self._requested == self._done and not self._ending:
                    self._round.wait(self._settings.interval)
                if self._ending:
                    break
                mine = self._requested
            failed: dict[str, str] = {}
            try:
                self._pass(failed)
            except Exception as error:
                log.exception("wiring failed")
                failed = _All(str(error))
            with self._round:
                for name, reason in failed.items():
                    if self._failed.get(name) != reason:
                        log.warning("not wired", extra=about(None, what=name, reason=reason))
                self._failed, self._done = failed, mine
                self._round.notify_all()
        self._close()

    def _pass(self, failed: dict[str, str]) -> None:
        found = living_hosts(self._hypervisors)
        for name in list(self._hosts):
            if found.get(name) != self._hosts[name].namespace:
                del self._hosts[name]
        for name, namespace in found.items():
            self._hosts.setdefault(name, HostWiring(name, namespace))
        plan = self._plan()
        self._serve(plan, failed)
        thorough = time.monotonic() >= self._thorough_at
        own_namespace = {network_id: service.own_namespace for network_id, service in self._services.items()}
        if self._settings.uplink:
            try:
                failed |= self._uplink.make(plan.networks, own_namespace)
            except WiringFailed as error:
                failed["uplink"] = str(error)
        wired: set[str] = set()
        for name, host in self._hosts.items():
            try:
                wired |= host.make(plan, own_namespace, thorough=thorough)
            except WiringFailed as error:
                failed[name] = str(error)
        if thorough:
            self._thorough_at = time.monotonic() + THOROUGH_SECONDS
        self._notify(plan, wired)

    def _plan(self) -> WiringPlan:
        """Make the plan from the records; each network that serves addresses has a port for its server afterwards."""
        with self._db.connect() as tx:
            plan = read_plan(tx, self._hosts.keys())
        bare = [network.id for network in plan.networks if network.unserved]
        for network_id in bare:
            try:
                self._db.run(lambda tx, one=network_id: self._make_dhcp_port(tx, one))  # type: ignore[misc]
            except PolycellError as error:
                log.warning("no address for DHCP", extra=about(None, network=network_id, reason=error))
        if not bare:
            return plan
        with self._db.connect() as tx:
            return read_plan(tx, self._hosts.keys())

    def _serve(self, plan: WiringPlan, failed: dict[str, str]) -> None:
        planned = {network.id for network in plan.networks}
        for network_id, service in list(self._services.items()):
            if network_id not in planned or not service.alive:
                service.close()
                del self._services[network_id]
                if network_id not in planned:
                    shutil.rmtree(self._directory / network_id, ignore_errors=True)
        for network in plan.networks:
            try:
                self._serve_one(network)
            except (WiringFailed, OSError) as error:
                failed[network.id] = str(error)

    def _serve_one(self, network: NetworkPlan) -> None:
        service = self._services.get(network.id)
        if service is None:
            service = self._services[network.id] = NetworkService.open(self._directory / network.id)
        namespace, url = service.own_namespace.namespace, self._settings.metadata_url
        upstream = Upstream(url, self._settings.secret)
        service.make(network, (lambda: MetadataProxy(namespace, upstream)) if url else None)

    def _notify(self, plan: WiringPlan, wired: Collection[str]) -> None:
        """Report the ports on such hosts as active while their taps are wired."""
        planned = {port.id: port for network in plan.networks for port in network.ports
                   if set(port.hosts) & self._hosts.keys()}  # fmt: skip
        if not planned:
            return

        def differing(tx: Connection) -> list[dict[str, Any]]:
            rows = store.search(tx, "port", id=list(planned)) if len(planned) < 500 else store.search(tx, "port")
            return [row for row in rows if row["id"] in planned and row["status"] != _status(row["id"])]

        def _status(port_id: str) -> str:
            port = planned[port_id]
            return "ACTIVE" if port.up and port.tap in wired else "DOWN"

        def work(tx: Connection) -> None:
            for row in differing(tx):
                store.change(tx, row, {"status": _status(row["id"])})

        with self._db.connect() as tx:
            stale = differing(tx)
        if stale:
            with contextlib.suppress(PolycellError):  # the next pass finds it again
                self._db.run(work)

    def _close(self) -> None:
        for service in self._services.values():
            service.close()
        self._services.clear()
        with contextlib.suppress(WiringFailed):
            self._uplink.close()


class _All(dict[str, str]):
    """The failure of everything for one reason."""

    def __init__(self, reason: str) -> None:
        super().__init__({"wiring": reason})
        self._reason = reason

    def get(self, key: str, default: Any = None) -> Any:
        return self._reason
