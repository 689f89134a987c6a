"""What a conductor works with, and the context in which it does what somebody else has asked for."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime

from cell_service.conductor.config import ConductorSettings
from cell_service.context import Clock, Context, Deadline, internal
from cell_service.db.sql.engine import Database
from cell_service.errors import Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.operation import EVENT, Kind, Operation
from cell_service.peers.image import Images
from cell_service.peers.network import Networks
from cell_service.peers.placement import Placement
from cell_service.peers.volumes import Volumes
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client
from cell_service.rpc.transport import Transport

log = logging.getLogger(__name__)

EVENTS: dict[Kind, str] = {
    Kind.BUILD: "compute__do_build_and_run_instance",
    Kind.START: "compute_start_instance",
    Kind.STOP: "compute_stop_instance",
    Kind.REBOOT_SOFT: "compute_reboot_instance",
    Kind.REBOOT_HARD: "compute_reboot_instance",
    Kind.PAUSE: "compute_pause_instance",
    Kind.UNPAUSE: "compute_unpause_instance",
    Kind.SUSPEND: "compute_suspend_instance",
    Kind.RESUME: "compute_resume_instance",
    Kind.REBUILD: "compute_rebuild_instance",
    Kind.SHELVE: "compute_shelve_instance",
    Kind.SHELVE_OFFLOAD: "compute_shelve_offload_instance",
    Kind.UNSHELVE: "compute_unshelve_instance",
    Kind.RESCUE: "compute_rescue_instance",
    Kind.UNRESCUE: "compute_unrescue_instance",
    Kind.CREATE_IMAGE: "compute_snapshot_instance",
    Kind.CREATE_BACKUP: "compute_backup_instance",
    Kind.SOFT_DELETE: "compute_soft_delete_instance",
    Kind.RESTORE: "compute_restore_instance",
    Kind.CHANGE_PASSWORD: "compute_set_admin_password",
    Kind.CRASH_DUMP: "compute_trigger_crash_dump",
    Kind.ATTACH_INTERFACE: "compute_attach_interface",
    Kind.DETACH_INTERFACE: "compute_detach_interface",
    Kind.DELETE: "compute_terminate_instance",
    Kind.ATTACH_VOLUME: "compute_attach_volume",
    Kind.DETACH_VOLUME: "compute_detach_volume",
    Kind.SWAP_VOLUME: "compute_swap_volume",
    Kind.EXTEND_VOLUME: "compute_extend_volume",
    Kind.SNAPSHOT_VOLUME: "compute_volume_snapshot_create",
    Kind.UNSNAPSHOT_VOLUME: "compute_volume_snapshot_delete",
    Kind.ATTACH_SHARE: "compute_attach_share",
    Kind.DETACH_SHARE: "compute_detach_share",
}
"""The events' names under which users of nova know these steps (Compute API reference, server actions). Those of
errands come with them."""


@dataclass(frozen=True, slots=True)
class ConductorContext:
    """One cell's database and queue, and the services beside it (None: there is none, nothing to release there).

    `work` is set when there may be something that conductors do themselves.
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
        """Tell the host that there is work. It finds out by itself when it can't be told."""
        try:
            client(Compute, self.transport, host).wake(ctx)
        except Unavailable as error:
            log.info("host not woken", extra=about(ctx, host=host, reason=error))


def context_of(operation: Operation, clock: Clock, seconds: float = 45) -> Context:
    """The request that the operation is part of, with `seconds` from now."""
    return Context(
        request_id=operation.request_id,
        user_id=operation.user_id,
        project_id=operation.project_id,
        is_admin=True,
        deadline=Deadline.after(seconds, clock),
    )


def event_of(operation: Operation) -> str | None:
    """The name of the event that the operation shows as in its instance's history, if it does."""
    return EVENTS.get(operation.kind) or operation.arguments.get(EVENT)


def on_behalf_of(deps: ConductorContext, instance: Instance) -> Context:
    """What conductors do of their own accord is done in the owner's name, as a request of its own."""
    ctx = internal(deps.clock)
    return Context(
        request_id=ctx.request_id,
        user_id=instance.user_id,
        project_id=instance.project_id,
        is_admin=True,
        deadline=ctx.deadline,
    )
