"""Recorded actions are done when their servers' cells answer again, those of one server in their order."""

from __future__ import annotations

import logging
from dataclasses import replace

from api_cell.servers import recorded
from api_cell.superconductor.context import SuperConductorContext
from cell_service.context import Context
from cell_service.logs import about
from mapping_db import recorded_actions
from mapping_db.recorded_actions import RecordedAction

log = logging.getLogger(__name__)

BATCH = 200


def replay(deps: SuperConductorContext) -> None:
    """Do what can be done now."""
    waiting: set[str] = set()
    after_id = 0
    while True:
        with deps.cloud.db.connect() as tx:
            found = recorded_actions.oldest(tx, BATCH, after_id)
        if not found:
            return
        after_id = found[-1].id
        for each in found:
            ctx = deps.acting_for(each.request_id, each.user_id, each.project_id)
            ctx = replace(ctx, is_admin=each.is_admin)
            if each.instance_uuid not in waiting and not _replay(deps, ctx, each):
                waiting.add(each.instance_uuid)


def _replay(deps: SuperConductorContext, ctx: Context, action: RecordedAction) -> bool:
    """Replay one recorded action. True: it is over. An action that can't be done for a fault of ours keeps back no
    other server's."""
    try:
        return recorded.replay(deps.cloud, ctx, action)
    except Exception:
        log.exception("recorded action not done", extra=about(ctx, instance=action.instance_uuid, action=action.action))
        return False
