"""Deletes that can be undone for a while: the guest is off and kept, until it is restored or its time is over.

A soft-deleted server still takes its place on its host and counts against its project's quota. What has no guest to
keep (never built, shelved, waiting for a resize to be confirmed) is deleted at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from api_cell.caller import Caller
from api_cell.servers import act, delete, find
from api_cell.servers.act import Doing
from api_cell.services import Services
from cell_service.errors import InstanceInvalidState, InstanceNotReady
from cell_service.model.instance import Instance
from cell_service.operations import deletes
from mapping_db.cloud import Cloud

SOFT_DELETE = Doing(deletes.SOFT_DELETE, delete.RULE)
RESTORE = Doing(deletes.RESTORE, "os_compute_api:os-deferred-delete:restore")
FORCE_RULE = "os_compute_api:os-deferred-delete:force"
SINCE = "soft_deleted_at"
"""The key in the system metadata of the time of the soft delete."""


def accept(cloud: Cloud, services: Services, caller: Caller, server_id: str) -> None:
    """The server will be deleted: at once, or with `reclaim_instance_interval` in two steps. Requested again: nothing
    changes.

    Raises InstanceNotFound, InstanceIsLocked, PolicyForbidden, CellUnavailable.
    """
    if not services.settings.soft_delete.reclaim_instance_interval:
        delete.accept(cloud, services, caller, server_id)
        return

    def prepare(instance: Instance) -> tuple[None, dict[str, Any]]:
        if instance.launched_at is None:
            raise InstanceNotReady(instance_uuid=server_id)
        now = cloud.clock.now()
        return None, {"system_metadata": {**instance.system_metadata, SINCE: now.isoformat()}}

    try:
        act.begin(cloud, caller, server_id, SOFT_DELETE, prepare=prepare)
    except (InstanceInvalidState, InstanceNotReady):
        instance = find.server(cloud, caller.ctx, server_id).instance
        rule = deletes.SOFT_DELETE.rule
        if instance.vm_state is not rule.after and instance.task_state is not rule.task:
            delete.accept(cloud, services, caller, server_id)


def since(instance: Instance) -> datetime:
    """The time at which the server's delete was accepted."""
    text = instance.system_metadata.get(SINCE)
    return datetime.fromisoformat(text) if text else instance.updated_at or instance.created_at
