"""The end of what a host does with an instance's shares. The instance's state stays as it is."""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection

from cell_service.conductor.context import EVENTS, ConductorContext, context_of
from cell_service.db import actions, instances, operations
from cell_service.logs import about
from cell_service.model.operation import Kind, Operation, Outcome, Phase
from cell_service.model.share import ShareMapping, ShareStatus, changed

log = logging.getLogger(__name__)


def host_is_through(deps: ConductorContext, operation: Operation, outcome: Outcome) -> None:
    """The share is as the host says: usable, or gone; after a fault it is in error, and may be detached. Told before:
    nothing. Raises OperationLost."""
    fault = outcome.fault

    def work(tx: Connection) -> None:
        now, uuid = deps.now(), operation.instance_uuid
        operations.finish(tx, operation.id, operation.fence, Phase.FAILED if fault else Phase.DONE, now)
        instances.hold(tx, uuid)
        instance = instances.get_many(tx, [uuid]).get(uuid)
        if instance is not None:
            instances.change(tx, uuid, now=now, shares=_after(instance.shares, operation, outcome))
        actions.finish_event(
            tx, uuid, operation.request_id, EVENTS[operation.kind], operation.host, now,
            result=actions.ERROR if fault else actions.SUCCESS,
            traceback=fault.details if fault else None, details=fault.message if fault else None,
        )  # fmt: skip
        actions.finish(tx, uuid, operation.request_id, now, message=actions.ERROR if fault else None)

    deps.db.run(work)
    words = {"kind": operation.kind.value, "fault": fault.message if fault else None}
    log.info(
        "share work ended", extra=about(context_of(operation, deps.clock), instance=operation.instance_uuid, **words)
    )


def _after(held: tuple[ShareMapping, ...], operation: Operation, outcome: Outcome) -> tuple[ShareMapping, ...]:
    uuid = str(operation.arguments.get("share"))
    old = next((one for one in held if one.uuid == uuid), None)
    if old is None:
        return held
    if outcome.fault is not None:
        return changed(held, replace(old, status=ShareStatus.ERROR), uuid)
    return changed(held, None if operation.kind is Kind.DETACH_SHARE else outcome.share, uuid)
