"""The threads of a conductor."""

from __future__ import annotations

from pathlib import Path

from cell_service.conductor.config import ConductorSettings
from cell_service.conductor.service import ConductorService
from cell_service.db import services
from cell_service.rpc.memory import Bus, MemoryTransport
from tests.real.databases import wait_until
from tests.suites.one_cell import OneCell


def test_a_host_that_was_forced_down_is_left_while_the_queue_is_unreachable(tmp_path: Path) -> None:
    cell, bus = OneCell(tmp_path), Bus()
    cell.host("h1")
    cell.host("h2")
    uuid = cell.boot("h1", "h2")
    node = cell.db.run(lambda tx: services.by_host(tx, "h1", services.COMPUTE).uuid)
    cell.db.run(lambda tx: services.change(tx, node, now=cell.clock.now(), forced_down=True))
    conductor = ConductorService(
        cell.db, MemoryTransport(bus), cell.networks, cell.placement, ConductorSettings(host="c"), cell.clock
    )
    bus.unreachable.set()
    conductor.start()
    try:
        wait_until(lambda: cell.instance(uuid).host == "h2", "the build stays with the host that was forced down")
    finally:
        conductor.stop(1)
