"""Further consequences of the end of an operation, which the conductor carries out. Each effect may be done twice.

Those of `Before` change other services before the end is recorded: a service that does not answer keeps the operation
open. Those of `Within` are part of the transaction that records the end, those of `After` follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Vif

if TYPE_CHECKING:
    from cell_service.operations.declaration import Operation


@dataclass(frozen=True, slots=True)
class ReleaseAllocations:
    """The instance has no allocations in placement any more."""


@dataclass(frozen=True, slots=True)
class DeletePorts:
    """The instance has no ports any more; those that its owner made stay, unbound."""


@dataclass(frozen=True, slots=True)
class UnbindPorts:
    """The instance's ports are bound to no host."""


@dataclass(frozen=True, slots=True)
class RemovePort:
    """The instance does not have that port any more."""

    port_id: str


@dataclass(frozen=True, slots=True)
class WithdrawPort:
    """Nothing is left of the attachment with that key."""

    key: str


@dataclass(frozen=True, slots=True)
class ReportSnapshot:
    """The block storage service knows the snapshot's status."""

    snapshot_id: str
    status: str


@dataclass(frozen=True, slots=True)
class RequireImage:
    """The operation fails unless the image is active. None: no image is known."""

    image_id: str | None


@dataclass(frozen=True, slots=True)
class RemoveImages:
    """The images are gone, and the snapshots of volumes that were taken for `unfinished` ones."""

    images: tuple[str, ...]
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveUnfinishedImages:
    """Those of the images that are not active are gone, with the snapshots of volumes that were taken for them."""

    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DisconnectVolume:
    """The instance has no attachment of the device's volume, on whichever host."""

    device: BlockDevice


@dataclass(frozen=True, slots=True)
class ReleaseVolumes:
    """The instance has no attachments any more, and volumes that were to go with it are gone."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Another operation begins for the same host, as part of the same action."""

    operation: Operation[Any, Any]
    arguments: Any
    deadline: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConductorFollowUp:
    """Another operation begins, which conductors do themselves, and which nothing waits for."""

    operation: Operation[Any, Any]
    arguments: Any


@dataclass(frozen=True, slots=True)
class CleanUpHost:
    """The instance's host removes what it may have of the instance, when it can; with parts it corrects only those."""

    parts_out: tuple[BlockDevice, ...] = ()
    parts_in: tuple[BlockDevice, ...] = ()
    ports_out: tuple[Vif, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkDeleted:
    """The instance is deleted."""


@dataclass(frozen=True, slots=True)
class WakeHost:
    """The operation's host polls for work now."""


@dataclass(frozen=True, slots=True)
class ReleaseAttachments:
    """A deleted instance has no attachments of volumes."""


Before = (
    ReleaseAllocations | DeletePorts | UnbindPorts | RemovePort | WithdrawPort | ReportSnapshot | RequireImage
    | RemoveImages | RemoveUnfinishedImages | DisconnectVolume | ReleaseVolumes
)  # fmt: skip
Within = FollowUp | ConductorFollowUp | CleanUpHost | MarkDeleted
After = WakeHost | ReleaseAttachments
Effect = Before | Within | After
