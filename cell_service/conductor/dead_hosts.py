"""Which hosts that are down are known to be dead, and not only unreachable.

Dead are those that were forced down, whose service was deleted, or from which the instance is being evacuated. A host
that is only unreachable may have a guest that writes to a volume; work on that volume waits for the host.
"""

from __future__ import annotations

from cell_service.conductor import reconciliation
from cell_service.conductor.context import ConductorContext
from cell_service.db import server_migrations, services
from cell_service.errors import ServiceNotFound
from cell_service.model.operation import StoredOperation


def is_given_up(deps: ConductorContext, operation: StoredOperation) -> bool:
    """Whether the operation's host, which is down, is known to be dead and not only unreachable."""
    with deps.db.connect() as tx:
        try:
            if services.by_host(tx, operation.host or "", services.COMPUTE).forced_down:
                return True
        except ServiceNotFound:
            return True
        moving = server_migrations.unfinished_of(tx, [operation.instance_uuid]).get(operation.instance_uuid)
    return moving is not None and reconciliation.flees(moving, operation.host or "")
