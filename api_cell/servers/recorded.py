"""Actions on a server whose cell does not answer: recorded if the client asks for that, and done when the cell is back.

They need nothing but the cell. The caller's rights are checked when an action is recorded, by what the mapping knows of
the server; whether its state allows it, and whether it is locked, only its cell knows: what is refused then is in the
server's history as an action that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import act, find, metadata, power
from api_cell.servers.act import AlreadyBegun, Doing
from api_cell.servers.metadata import MetadataChange
from cell_service import wire
from cell_service.context import Context
from cell_service.db import actions
from cell_service.errors import (
    InstanceInvalidState,
    InstanceMappingNotFound,
    InstanceNotFound,
    PolycellError,
    Unavailable,
)
from cell_service.logs import about
from mapping_db import instance_mappings, recorded_actions
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.recorded_actions import RecordedAction

log = logging.getLogger(__name__)

_POWER = {doing.operation.name: doing for doing in (power.START, power.STOP, power.REBOOT_SOFT, power.REBOOT_HARD)}
_METADATA = "metadata"


class _AlreadyChecked:
    """The policy of actions whose caller's rights were checked when they were recorded."""

    def allows(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> bool:
        return True

    def demand(self, ctx: Context, rule: str, target: Mapping[str, Any] | None = None) -> None:
        return None


def record_action(cloud: Cloud, caller: Caller, server_id: str, doing: Doing) -> None:
    """Record the action, which is tried once the server's cell answers. Raises InstanceNotFound, PolicyForbidden."""
    _record(cloud, caller, server_id, doing.rule, doing.operation.name, {})


def record_metadata(cloud: Cloud, caller: Caller, server_id: str, wanted: MetadataChange, most: int) -> None:
    """As `record_action`, for a change of metadata of which `most` items are allowed."""
    _record(cloud, caller, server_id, wanted.rule, _METADATA, {"change": wire.to_plain(wanted), "most": most})


def is_recordable(doing: Doing) -> bool:
    return doing.operation.name in _POWER


def _record(cloud: Cloud, caller: Caller, server_id: str, rule: str, action: str, arguments: Mapping[str, Any]) -> None:
    ctx = caller.ctx

    def work(tx: Connection) -> None:
        mapping = instance_mappings.lock_row(tx, server_id)
        find.demand_visible(ctx, mapping.project_id, server_id)
        caller.demand(rule, {"project_id": mapping.project_id, "user_id": mapping.user_id})
        if mapping.queued_for_delete or mapping.gone:
            raise InstanceNotFound(instance_id=server_id)
        recorded_actions.record(
            tx,
            RecordedAction(
                server_id, action, arguments, ctx.request_id, ctx.user_id, ctx.project_id, ctx.is_admin,
                cloud.clock.now(),
            ),
        )  # fmt: skip

    try:
        cloud.db.run(work)
    except InstanceMappingNotFound:
        raise InstanceNotFound(instance_id=server_id) from None
    log.info("action recorded for a cell that is down", extra=about(ctx, instance=server_id, action=action))


def replay(cloud: Cloud, ctx: Context, recorded: RecordedAction) -> bool:
    """Do what was recorded, once; what is refused is over as well. False: the server's cell does not answer yet, or the
    server is busy."""
    caller, uuid = Caller(ctx, _AlreadyChecked()), recorded.instance_uuid
    refusal: PolycellError | None = None
    try:
        _demand_kept(cloud, uuid)
        _doer(recorded)(cloud, caller)
    except InstanceNotFound:
        log.info("the server of a recorded action is gone", extra=about(ctx, instance=uuid, action=recorded.action))
    except AlreadyBegun:  # its answer was lost, or the process that replayed it died
        log.info("recorded action was begun before", extra=about(ctx, instance=uuid, action=recorded.action))
    except Unavailable:
        return False
    except InstanceInvalidState as error:
        if error.fields["attribute"] == "task_state":
            return False
        refusal = error
    except PolycellError as error:
        refusal = error
    if refusal is not None and not _refused(cloud, ctx, recorded, refusal):
        return False
    cloud.db.run(lambda tx: recorded_actions.remove(tx, recorded.id))
    return True


def _demand_kept(cloud: Cloud, server_id: str) -> None:
    """Raises InstanceNotFound for a server whose delete was accepted."""
    with cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [server_id]).get(server_id)
    if mapping is None or mapping.queued_for_delete:
        raise InstanceNotFound(instance_id=server_id)


def _doer(recorded: RecordedAction) -> Callable[[Cloud, Caller], object]:
    uuid = recorded.instance_uuid
    if recorded.action == _METADATA:
        wanted = wire.from_plain(MetadataChange, recorded.arguments["change"])
        return lambda cloud, caller: metadata.change(cloud, caller, uuid, wanted, recorded.arguments["most"])
    doing = _POWER[recorded.action]
    return lambda cloud, caller: act.begin(cloud, caller, uuid, doing, again=True)


def _refused(cloud: Cloud, ctx: Context, recorded: RecordedAction, error: PolycellError) -> bool:
    """Record in the server's history that the action failed. False: the cell does not answer any more."""
    uuid, doing = recorded.instance_uuid, _POWER.get(recorded.action)
    log.warning("recorded action refused", extra=about(ctx, instance=uuid, action=recorded.action, reason=error))
    if doing is None:
        return True
    action, event, now = doing.operation.action, doing.operation.event, cloud.clock.now()

    def work(tx: Connection, _cell: Cell) -> None:
        actions.start(tx, ctx, uuid, action, now)
        actions.finish_event(
            tx, uuid, ctx.request_id, event or "", None, now, result=actions.ERROR, details=error.for_users()
        )
        actions.finish(tx, uuid, ctx.request_id, now, message=actions.ERROR)

    try:
        find.change(cloud, ctx, uuid, work)
    except Unavailable:
        return False
    except InstanceNotFound as gone:
        log.info("refusal not recorded", extra=about(ctx, instance=uuid, reason=gone))
    return True
