"""Shelved instances that leave their hosts after a while."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from cell_service.conductor.context import ConductorContext, on_behalf_of
from cell_service.db import actions, instances, operations
from cell_service.logs import about
from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import State, VmState
from cell_service.operations.shelving import SHELVE_OFFLOAD

log = logging.getLogger(__name__)

RETRY = timedelta(hours=1)
"""The pause before a shelved instance that could not leave its host is offloaded again."""


def offload_late(deps: ConductorContext) -> int:
    """Begin to offload instances that have been shelved for longer than the configured time. Returns how many."""
    seconds, now = deps.settings.shelved_offload_seconds, deps.now()
    if seconds < 0:
        return 0
    with deps.db.connect() as tx:
        there = instances.shelved_on_hosts(tx)
    late = [each for each in there if _is_late(each, now, timedelta(seconds=seconds))]
    return sum(deps.db.run(lambda tx, one=each: _begin(tx, deps, one)) for each in late)  # type: ignore[misc]


def _is_late(instance: Instance, now: datetime, after: timedelta) -> bool:
    since = shelved.since(instance.system_metadata)
    if instance.fault is not None and since is not None and since < instance.fault.created_at > now - RETRY:
        return False
    return since is None or since + after <= now


def _begin(tx: Connection, deps: ConductorContext, instance: Instance) -> bool:
    now, task = deps.now(), SHELVE_OFFLOAD.rule.task
    if not instances.change(tx, instance.uuid, now=now, expect=State(VmState.SHELVED), settled=True, task_state=task):
        return False
    ctx = on_behalf_of(deps, instance)
    actions.start(tx, ctx, instance.uuid, SHELVE_OFFLOAD.action, now)
    operations.insert(tx, operations.new_operation(SHELVE_OFFLOAD, ctx, instance.uuid, instance.host, now))
    log.info("shelved instance leaves its host", extra=about(ctx, instance=instance.uuid, host=instance.host))
    return True
