"""Hosts in maintenance: they take no new servers, and those that run there move away while they run.

First the host, which from then on refuses all new guests; then its service's row, so that no server is placed
there; then a move for each server. Killed in between, the work goes on without the caller, and another request
finds what is left. A server that can't move stays where it is.
"""

from __future__ import annotations

import logging

from api_cell.contract import SuperConductor
from api_cell.hosts import change
from api_cell.hosts.power import demand_answer
from api_cell.servers.moves import kinds, request
from api_cell.servers.moves.emptying import servers_on
from cell_service.context import Context
from cell_service.errors import PolycellError, Unavailable
from cell_service.logs import about
from cell_service.model.host import Service
from cell_service.model.move import MovePlan
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

REASON = "In maintenance."
"""Why the service is disabled. One that was disabled before stays so afterwards."""


def enter(cloud: Cloud, ctx: Context, superconductor: SuperConductor, cell_id: int, service: Service) -> None:
    """Put the host into maintenance, and begin to move its running servers. Raises NotSupported, Invalid, DriverError,
    CellUnavailable."""
    cell = cloud.cells.open(cell_id)
    with demand_answer(service):
        cell.compute(service.host).set_maintenance(ctx, True)
    if not service.disabled:
        change.change_service(cloud, ctx, cell_id, service, disabled=True, disabled_reason=REASON)
    log.info("host in maintenance", extra=about(ctx, host=service.host))
    _send_away(cloud, ctx, superconductor, cell, service.host)


def leave(cloud: Cloud, ctx: Context, cell_id: int, service: Service) -> None:
    """Let the host take servers again. Raises like `enter`."""
    cell = cloud.cells.open(cell_id)
    with demand_answer(service):
        cell.compute(service.host).set_maintenance(ctx, False)
    if service.disabled and service.disabled_reason == REASON:
        change.change_service(cloud, ctx, cell_id, service, disabled=False)
    log.info("host not in maintenance any more", extra=about(ctx, host=service.host))


def _send_away(cloud: Cloud, ctx: Context, superconductor: SuperConductor, cell: Cell, host: str) -> None:
    for instance in servers_on(cell, host, ctx):
        if instance.vm_state not in kinds.LIVE_MIGRATION.request.rule.start:
            continue
        try:
            request.accept(cloud, ctx, superconductor, cell, instance, kinds.LIVE_MIGRATION, MovePlan())
        except Unavailable:
            raise
        except PolycellError as error:
            log.warning("server stays", extra=about(ctx, instance=instance.uuid, host=host, reason=error))
