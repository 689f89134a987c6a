"""Waiting for ports: for what is said, for what is seen, and not for ever."""

from __future__ import annotations

import threading

import pytest

from cell_service.context import Context, Deadline, ManualClock
from cell_service.errors import DriverError
from cell_service.model.instance import Flavor, Instance
from cell_service.model.operation import ClaimedOperation, Phase, StoredOperation
from cell_service.operations.builds import BUILD
from compute_host.operations.context import OperationContext
from compute_host.plugging import Plugging
from tests.suites.peers import MemoryNetworks


class Scene:
    """An instance whose one port is not plugged, and somebody who waits for it."""

    def __init__(self, *, fatal: bool = True, seconds: float = 60.0) -> None:
        self.clock, self.networks = ManualClock(), MemoryNetworks()
        now = self.clock.now()
        instance = Instance("i", "p", "u", "n", Flavor("1", "f", 1, 1, 1), now)
        operation = StoredOperation(1, "i", BUILD.name, Phase.RUNNING, "h", "r", "u", "p", now, now)
        ctx = Context(request_id="r", deadline=Deadline.after(600, self.clock))
        self.work = OperationContext(ctx, ClaimedOperation(operation, instance), check=lambda: None)
        self.port = self.networks.ports[self.networks.add_port()]
        self.port.instance_uuid, self.port.status = "i", "DOWN"
        self.plugging = Plugging(self.clock, seconds, fatal=fatal)
        self.errors: list[Exception] = []
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self.plugging.wait(self.networks, self.work, (self.port.vif,))
        except DriverError as error:
            self.errors.append(error)

    def ended(self) -> bool:
        self._thread.join(10)
        return not self._thread.is_alive()

    def switch(self) -> bool:
        """Turn the clock on until nobody waits any more."""
        for _ in range(1000):
            if not self._thread.is_alive():
                return True
            self.clock.advance(1)
            self._thread.join(0.005)
        return False


def test_a_port_is_seen_to_be_plugged_though_nobody_says_so() -> None:
    scene = Scene()
    scene.port.status = "ACTIVE"
    assert scene.switch()
    assert scene.errors == []


@pytest.mark.parametrize("fatal", [True, False])
def test_nobody_waits_for_ever(fatal: bool) -> None:
    scene = Scene(fatal=fatal)
    assert scene.switch()
    assert bool(scene.errors) == fatal


def test_nobody_waits_where_that_is_not_wanted() -> None:
    scene = Scene(seconds=0)
    assert scene.ended()
    assert scene.errors == []
