"""Rows of the services above the cells: a super-conductor is nova's scheduler and its conductor of the API.

They are stored in cell0, as with nova, whose services above the cells have that database for their own.
"""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.contract import SuperConductor
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import internal
from cell_service.db import services

BINARIES = (services.SCHEDULER, services.CONDUCTOR)
VERSION = 1


def report(deps: SuperConductorContext) -> None:
    """Record that the services of this super-conductor's host are up. Raises CellMappingNotFound, CellUnavailable."""
    host, now = deps.settings.host, deps.cloud.clock.now()

    def work(tx: Connection) -> None:
        for binary in BINARIES:
            if not services.heartbeat(tx, host, binary, now):
                services.register(tx, host=host, binary=binary, topic=SuperConductor.topic, version=VERSION, now=now)

    deps.cloud.cells.cell0().db.run(work, internal(deps.cloud.clock, seconds=20).deadline)
