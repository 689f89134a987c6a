"""Switching whole hosts off and on, where their drivers can.

First the host, then its service's row: a host that was shut down is forced down, so that no server is placed there and
its servers may be evacuated at once; one that starts is not any more. Killed between the two, a host that is off is
down as soon as its heartbeats have been missed, and a start that is requested again finds what is left.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from api_cell.hosts import change
from api_cell.servers import act
from cell_service.context import Context
from cell_service.errors import DeadlineExceeded, Invalid, NoConsumer
from cell_service.logs import about
from cell_service.model.host import PowerAction, Service
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)


def switch(cloud: Cloud, ctx: Context, cell_id: int, service: Service, action: PowerAction) -> None:
    """Have the host do the action. Raises NotSupported, Invalid (also when its agent does not answer), DriverError,
    CellUnavailable."""
    cell = cloud.cells.open(cell_id)
    with demand_answer(service):
        cell.compute(service.host).power_host(ctx, action)
    log.info("host switched", extra=about(ctx, host=service.host, action=action.value))
    if action is not PowerAction.REBOOT:
        off = action is PowerAction.SHUTDOWN
        change.change_service(cloud, ctx, cell_id, service, forced_down=off)
        if not off:
            act.wake(ctx, cell, service.host)


@contextlib.contextmanager
def demand_answer(service: Service) -> Iterator[None]:
    """Raises Invalid when the service's host, which is called here, does not answer."""
    try:
        yield
    except (NoConsumer, DeadlineExceeded):
        raise Invalid(reason=f"Compute service of {service.host} is unavailable at this time.") from None
