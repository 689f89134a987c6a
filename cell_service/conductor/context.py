"""A conductor's dependencies, and the contexts in which it continues the work of requests."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cell_service.backoff import Backoff
from cell_service.conductor.config import ConductorSettings
from cell_service.context import Clock, Context, Deadline, internal
from cell_service.db.sql.engine import Database
from cell_service.errors import Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.operation import StoredOperation
from cell_service.peers.image import Images
from cell_service.peers.network import Networks
from cell_service.peers.placement import Placement
from cell_service.peers.volumes import Volumes
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client
from cell_service.rpc.transport import Transport

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 300.0
_PAUSES = Backoff(first=2.0, longest=LONGEST_PAUSE_SECONDS, spread=(1, 1))


@dataclass(frozen=True, slots=True)
class ConductorContext:
    """One cell's database and queue, and its peers (None: there is no such service, and nothing to release there).

    `work` is set when there may be operations that conductors do themselves.
    """

    db: Database
    transport: Transport
    networks: Networks | None
    placement: Placement | None
    clock: Clock
    settings: ConductorSettings
    images: Images | None = None
    volumes: Volumes | None = None
    work: threading.Event = field(default_factory=threading.Event)

    def now(self) -> datetime:
        return self.clock.now()

    def wake(self, ctx: Context, host: str) -> None:
        """Notify the host that there is work. A host that can't be reached finds it at its next poll."""
        try:
            client(Compute, self.transport, host).wake(ctx)
        except Unavailable as error:
            log.info("host not woken", extra=about(ctx, host=host, reason=error))


def context_of(operation: StoredOperation, clock: Clock, seconds: float = 45) -> Context:
    """The context of the request that the operation is part of, with a deadline in `seconds`."""
    return Context(
        request_id=operation.request_id,
        user_id=operation.user_id,
        project_id=operation.project_id,
        is_admin=True,
        deadline=Deadline.after(seconds, clock),
    )


def about_operation(deps: ConductorContext, operation: StoredOperation, **fields: object) -> dict[str, Any]:
    """The fields of a log line about the operation."""
    return about(
        context_of(operation, deps.clock),
        instance=operation.instance_uuid,
        operation=operation.id,
        kind=operation.kind,
        host=operation.host,
        **fields,
    )


def pause_seconds(attempt: int) -> float:
    """The pause before work that has failed `attempt` times is tried again."""
    return _PAUSES.pause(attempt + 1)


def on_behalf_of(deps: ConductorContext, instance: Instance) -> Context:
    """A context for work on the instance that conductors begin by themselves: a request id of its own, the owner's
    project."""
    ctx = internal(deps.clock)
    return Context(
        request_id=ctx.request_id,
        user_id=instance.user_id,
        project_id=instance.project_id,
        is_admin=True,
        deadline=ctx.deadline,
    )
