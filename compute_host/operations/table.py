"""All operations that a host can do: one function for each. Each may run again after a restart in the middle of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cell_service.errors import NotYet, OperationLost, PolycellError
from cell_service.logs import about
from cell_service.model.instance import Fault
from cell_service.model.operation import Outcome
from cell_service.operations import builds as declared_builds
from cell_service.operations import deletes as declared_deletes
from cell_service.operations import guests as declared_guests
from cell_service.operations import host_tasks
from cell_service.operations import images as declared_images
from cell_service.operations import interfaces as declared_interfaces
from cell_service.operations import power as declared_power
from cell_service.operations import rescue as declared_rescue
from cell_service.operations import shares as declared_shares
from cell_service.operations import shelving as declared_shelving
from cell_service.operations import volumes as declared_volumes
from cell_service.operations.declaration import Operation
from compute_host.operations import (
    builds,
    deletes,
    guests,
    images,
    interfaces,
    moves,
    power,
    reimage,
    rescue,
    shares,
    shelve,
    soft_delete,
    volume_snapshots,
    volumes,
)
from compute_host.operations.context import HostContext, OperationContext, power_state_of

log = logging.getLogger(__name__)

A = TypeVar("A")
Undo = Callable[[HostContext, OperationContext], None]
Failed = Callable[[HostContext, OperationContext, Exception, Fault], Outcome]


def nothing(_context: HostContext, _work: OperationContext) -> None:
    """Undo nothing: the worker that has the operation now repeats it."""


def failed(context: HostContext, work: OperationContext, error: Exception, fault: Fault) -> Outcome:
    """The outcome after an error that leaves the guest as it is; an operation that can't be undone is tried again."""
    return Outcome(
        work.claimed.id,
        work.claimed.fence,
        fault=fault,
        retriable=isinstance(error, NotYet),
        power_state=power_state_of(context, work),
    )


@dataclass(frozen=True, slots=True)
class Performed(Generic[A]):
    """How a host does an operation. `undo`: if it was lost while it was done. `failed`: the outcome after an error."""

    operation: Operation[A, Any]
    do: Callable[[HostContext, OperationContext, A], Outcome]
    undo: Undo = nothing
    failed: Failed = failed


ALL: tuple[Performed[Any], ...] = (
    Performed(declared_builds.BUILD, builds.build, builds.undo, builds.failed),
    Performed(declared_builds.REBUILD, builds.rebuild, failed=reimage.failed),
    Performed(declared_power.START, power.start),
    Performed(declared_power.STOP, power.stop),
    Performed(declared_power.REBOOT_SOFT, power.reboot_soft),
    Performed(declared_power.REBOOT_HARD, power.reboot_hard),
    Performed(declared_power.PAUSE, power.pause),
    Performed(declared_power.UNPAUSE, power.unpause),
    Performed(declared_power.SUSPEND, power.suspend),
    Performed(declared_power.RESUME, power.resume),
    Performed(declared_shelving.SHELVE, shelve.shelve),
    Performed(declared_shelving.SHELVE_OFFLOAD, shelve.offload),
    Performed(declared_shelving.UNSHELVE, shelve.unshelve),
    Performed(declared_rescue.RESCUE, rescue.rescue),
    Performed(declared_rescue.UNRESCUE, rescue.unrescue),
    Performed(declared_images.CREATE_IMAGE, images.make_image),
    Performed(declared_images.CREATE_BACKUP, images.make_backup),
    Performed(declared_images.FORGET_IMAGES, images.forget_images),
    Performed(declared_deletes.SOFT_DELETE, soft_delete.soft_delete),
    Performed(declared_deletes.RESTORE, soft_delete.restore),
    Performed(declared_deletes.DELETE, deletes.delete),
    Performed(declared_guests.CHANGE_PASSWORD, guests.change_password),
    Performed(declared_guests.CRASH_DUMP, guests.dump),
    Performed(declared_interfaces.ATTACH_INTERFACE, interfaces.attach, interfaces.forget),
    Performed(declared_interfaces.DETACH_INTERFACE, interfaces.detach),
    Performed(host_tasks.PREPARE_SOURCE, moves.prepare_source),
    Performed(host_tasks.PREPARE_DESTINATION, moves.prepare_destination),
    Performed(host_tasks.ACTIVATE, moves.activate),
    Performed(host_tasks.CLEAN_UP, moves.clean_up),
    Performed(declared_volumes.ATTACH_VOLUME, volumes.attach),
    Performed(declared_volumes.DETACH_VOLUME, volumes.detach),
    Performed(declared_volumes.SWAP_VOLUME, volumes.swap),
    Performed(declared_volumes.EXTEND_VOLUME, volumes.extend),
    Performed(declared_volumes.SNAPSHOT_VOLUME, volume_snapshots.take),
    Performed(declared_volumes.UNSNAPSHOT_VOLUME, volume_snapshots.remove),
    Performed(declared_shares.ATTACH_SHARE, shares.attach),
    Performed(declared_shares.DETACH_SHARE, shares.detach),
)
PERFORMED: dict[str, Performed[Any]] = {each.operation.name: each for each in ALL}


def perform(context: HostContext, work: OperationContext) -> Outcome:
    """Do the operation. Faults are part of the outcome; a failed build has left nothing behind, if that was possible.

    Raises OperationLost (see `undo`).
    """
    how = PERFORMED[work.operation.kind]
    try:
        return how.do(context, work, how.operation.read(work.operation.arguments, work.claimed.secrets))
    except OperationLost:
        raise
    except Exception as error:
        log.warning(
            "operation failed on this host",
            extra=about(
                work.ctx, instance=work.instance.uuid, host=context.host, kind=how.operation.name, reason=error
            ),
            exc_info=not isinstance(error, PolycellError),
        )
        return how.failed(context, work, error, _fault(context, error))


def undo(context: HostContext, work: OperationContext) -> None:
    """Undo what would harm the worker that has claimed the operation while this host did it."""
    PERFORMED[work.operation.kind].undo(context, work)


def _fault(context: HostContext, error: Exception) -> Fault:
    """The fault as the user reads it: for a PolycellError its message for users, for any other error only its class."""
    message = error.for_users() if isinstance(error, PolycellError) else f"Unexpected {type(error).__name__}."
    code = error.status if isinstance(error, PolycellError) and error.status != 503 else 500
    details = "".join(traceback.format_exception(error))
    return Fault(code=code, message=message[:255], created_at=context.clock.now(), details=details)
