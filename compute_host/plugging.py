"""Waiting for the network service to report that a new guest's ports are plugged."""

from __future__ import annotations

import logging
import threading

from cell_service.context import Clock
from cell_service.errors import DriverError
from cell_service.logs import about
from cell_service.model.instance import Vif
from cell_service.peers.network import Networks
from compute_host.operations.context import OperationContext

log = logging.getLogger(__name__)

ACTIVE = "ACTIVE"
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.5, 10.0


class Plugging:
    """Lets builds wait for their ports. An event wakes a waiting build, which also polls at intervals, since an event
    may be lost. `seconds` 0: builds do not wait. `fatal`: ports that are not plugged in time fail the build.
    Thread-safe."""

    def __init__(self, clock: Clock, seconds: float, *, fatal: bool) -> None:
        self._clock, self._seconds, self._fatal = clock, seconds, fatal
        self._lock = threading.Lock()
        self._waiting: dict[str, threading.Event] = {}
        self._failed: set[str] = set()

    def reported(self, instance_uuid: str, port_id: str, *, failed: bool) -> None:
        """Wake the build that waits: the network service has reported an event of a port of the instance."""
        with self._lock:
            event = self._waiting.get(instance_uuid)
            if event is not None:
                if failed:
                    self._failed.add(port_id)
                event.set()

    def wait(self, networks: Networks, work: OperationContext, vifs: tuple[Vif, ...]) -> None:
        """Wait until the ports are plugged, or need not be. Raises DriverError, OperationLost, PeerUnavailable."""
        uuid, ports = work.instance.uuid, {vif.port_id for vif in vifs}
        if not ports or self._seconds <= 0:
            return
        event = threading.Event()
        with self._lock:
            self._waiting[uuid] = event
        try:
            end, pause = self._clock.monotonic() + self._seconds, FIRST_LOOK_SECONDS
            while left := self._unplugged(networks, work, ports):
                work.check()
                if ports & self._failed or self._clock.monotonic() >= end:
                    self._give_up(work, left)
                    return
                self._clock.wait(event, pause)
                event.clear()
                pause = min(pause * 1.5, LAST_LOOK_SECONDS)
        finally:
            with self._lock:
                self._waiting.pop(uuid, None)
                self._failed -= ports

    def _unplugged(self, networks: Networks, work: OperationContext, ports: set[str]) -> set[str]:
        now = networks.port_states(work.ctx, work.instance.uuid, project_id=work.instance.project_id)
        return {port.port_id for port in now if port.port_id in ports and port.status != ACTIVE}

    def _give_up(self, work: OperationContext, left: set[str]) -> None:
        reason = f"Ports were not plugged in time: {', '.join(sorted(left))}."
        if self._fatal:
            raise DriverError(reason=reason)
        log.warning("guest runs without its ports", extra=about(work.ctx, instance=work.instance.uuid, reason=reason))
