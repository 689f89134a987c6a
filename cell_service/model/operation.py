"""Work that a cell has promised to do: the rows behind "nothing accepted is ever lost".

An operation is written in the same transaction as the change of task state that announces it. Whoever works on
it holds its lease and its fence: a number that grows each time it is taken, so that a late worker is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Fault, InjectedFile, Instance, NetworkRequest, Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.share import ShareMapping


class Kind(StrEnum):
    """What is to be done; also the key of lifecycle.RULES."""

    BUILD = "create"
    START = "start"
    STOP = "stop"
    REBOOT_SOFT = "reboot_soft"
    REBOOT_HARD = "reboot_hard"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    REBUILD = "rebuild"
    SHELVE = "shelve"
    SHELVE_OFFLOAD = "shelveOffload"
    UNSHELVE = "unshelve"
    RESCUE = "rescue"
    UNRESCUE = "unrescue"
    CREATE_IMAGE = "createImage"
    CREATE_BACKUP = "createBackup"
    SOFT_DELETE = "soft-delete"
    RESTORE = "restore"
    CHANGE_PASSWORD = "changePassword"
    CRASH_DUMP = "trigger_crash_dump"
    ATTACH_INTERFACE = "attach_interface"
    DETACH_INTERFACE = "detach_interface"
    DELETE = "delete"
    MOVE_OUT = "move_out"
    MOVE_IN = "move_in"
    MOVE_RUN = "move_run"
    MOVE_DROP = "move_drop"
    ATTACH_VOLUME = "attach_volume"
    DETACH_VOLUME = "detach_volume"
    SWAP_VOLUME = "swap_volume"
    EXTEND_VOLUME = "extend_volume"
    SNAPSHOT_VOLUME = "volume_snapshot_create"
    UNSNAPSHOT_VOLUME = "volume_snapshot_delete"
    ATTACH_SHARE = "attach_share"
    DETACH_SHARE = "detach_share"


VOLUME_WORK = frozenset({Kind.ATTACH_VOLUME, Kind.DETACH_VOLUME, Kind.SWAP_VOLUME, Kind.EXTEND_VOLUME})
"""What hosts do with volumes of an instance, whose state stays as it is.

ATTACH_VOLUME {device}: the guest has that block device (by uuid). DETACH_VOLUME {device}: it has it no more, nor has
the host. SWAP_VOLUME {device, volume_id}: the device is that volume. EXTEND_VOLUME {device}: the guest sees its new
size."""


SHARE_WORK = frozenset({Kind.ATTACH_SHARE, Kind.DETACH_SHARE})
"""What hosts do with shares of an instance that is off, whose state stays as it is.

ATTACH_SHARE {share}: the host may mount the share of that mapping (by uuid). DETACH_SHARE {share}: it may not any more,
unless another instance on it has that share."""


SNAPSHOT_FAULTS = {Kind.SNAPSHOT_VOLUME: "error", Kind.UNSNAPSHOT_VOLUME: "error_deleting"}
"""What the block storage service is told of a snapshot when such work has failed.

SNAPSHOT_VOLUME {volume_id, snapshot_id, new_file}: the guest writes the volume's changes to that file from now on.
UNSNAPSHOT_VOLUME {volume_id, snapshot_id, file_to_merge, merge_target_file}: the files are merged."""


ERRANDS = frozenset({Kind.MOVE_OUT, Kind.MOVE_IN, Kind.MOVE_RUN, Kind.MOVE_DROP})
"""What hosts do for a move. They change nothing of the instance's state: who runs the move reads their result.

MOVE_OUT {live, shutdown}: the guest is ready to be taken over (cold: it is off) and still here; result {luggage,
was_running}.
MOVE_IN {luggage, live, flavor, admin_password, image}: the guest is here, and does not run; without luggage it is made
from `image`, or from the instance's own one.
MOVE_RUN {run, live, luggage, flavor, image}: the ports are bound to this host, and the guest runs if `run`; the outcome
has power_state and network_info. `image` is needed no more; result {image_gone}.
MOVE_DROP {}: nothing of the guest is left here; ports and allocations are left alone. Conductors ask for it, too, when
an instance has left a host that was down. With PARTS_OUT, PARTS_IN, PORTS_OUT (see there) only those are put in
order."""

HELD_BY_GUESTS = VOLUME_WORK | {Kind.ATTACH_INTERFACE, Kind.DETACH_INTERFACE}
"""Of these only the host knows how far they are, as long as it may be alive."""

PARTS_OUT, PARTS_IN, PORTS_OUT = "parts_out", "parts_in", "ports_out"
"""MOVE_DROP {parts_out, parts_in, ports_out}: the guest, if there is one, has none of the block devices `parts_out` and
cards `ports_out`, and those block devices of `parts_in` that still are its instance's, in that size (all in their plain
form)."""

EVENT = "event"
"""Where the arguments of an errand say as which event it shows."""


IMAGE, STALE_IMAGE, IMAGE_GONE = "image", "stale_image", "image_gone"
"""SHELVE {image, stale_image}: the guest is off, and `image` (a uuid chosen before) holds its root disk; `stale_image`,
which an earlier one may have left, is gone; result {image}.
SHELVE_OFFLOAD {}: nothing of the guest is left here, its ports are bound to no host.
UNSHELVE {}: the guest that never left runs; result {image_gone}."""


NEW_IMAGE, ROTATION = "new_image", "rotation"
"""CREATE_IMAGE {new_image}: that image (a NewImage in its plain form), whose record is there, has the guest's root
disk. CREATE_BACKUP {new_image, rotation}: and of the backups of its kind only the newest are there."""


REIMAGE = "reimage"
"""REBUILD {image, reimage}: the guest is made anew, from the instance's image; from its volumes as they are where it
boots from one, but with `reimage` from `image`, whose content that volume has then."""


UNFINISHED_IMAGES = "unfinished_images"
"""DELETE {unfinished_images}: these images, which were being made of the guest, are gone too."""


ADMIN_PASSWORD, STABLE = "admin_password", "stable"
"""RESCUE {admin_password, image, stable}: the guest runs from `image` (or the instance's own), its disks beside it,
where they always are if `stable`. UNRESCUE {}: it runs from its own. A password is in no operation that has ended."""


ERRAND_OUTCOME = "outcome"
"""Where the arguments of an ended errand hold its Outcome, in its plain form; also of the kinds in TELLING."""

TELLING = frozenset({Kind.ATTACH_INTERFACE})
"""Somebody waits for the outcome of these.

ATTACH_INTERFACE {key, network_id, port_id, fixed_ip, tag}: a port is made, or the given one bound, and plugged; `key`
marks it as this operation's; result {port_id}.
DETACH_INTERFACE {port_id}: it is unplugged; deleted if we made it, its owner's again if not."""


class Phase(StrEnum):
    """Where an operation stands. OPEN and RUNNING are unfinished; MOVING is a build that left one host and
    has not yet reached the next (the conductor owns it)."""

    OPEN = "open"
    RUNNING = "running"
    MOVING = "moving"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


UNFINISHED = frozenset({Phase.OPEN, Phase.RUNNING, Phase.MOVING})


@dataclass(frozen=True, slots=True)
class Alternate:
    """A host that may take the build when the chosen one fails; `allocations` is placement's form:
    resource provider uuid → resource class → amount."""

    host: str
    node: str
    provider_uuid: str
    allocations: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class BuildArguments:
    """What a build needs beyond the instance itself, all of it known before it was accepted."""

    networks: tuple[NetworkRequest, ...] | None = None
    """None: auto allocation (the project's networks); empty: no network."""
    auto_networks: bool = False
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = ""
    alternates: tuple[Alternate, ...] = ()
    hosts_tried: tuple[str, ...] = ()
    cell: str = ""
    """Name of the cell that builds it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a cell's `operations`. `host` None: the conductor does it itself. `attempt` counts takers."""

    id: int
    instance_uuid: str
    kind: Kind
    phase: Phase
    host: str | None
    request_id: str
    user_id: str
    project_id: str
    created_at: datetime
    deadline: datetime
    build: BuildArguments | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """An operation with the instance as it stood when it was taken: all that a host needs to do it."""

    operation: Operation
    instance: Instance


def overtaken(unfinished: Iterable[Operation]) -> dict[str, Any]:
    """The arguments of a delete that overtakes these: what they would have left."""
    making = [each.arguments[NEW_IMAGE]["id"] for each in unfinished if NEW_IMAGE in each.arguments]
    return {UNFINISHED_IMAGES: making} if making else {}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended at a host. `fault` None: it succeeded.

    `retriable`: another host may do better (builds), or this one later (others: they only go forward now).
    `power_state` and `network_info` are what holds now; None leaves what the cell has. `host_clean`: nothing of the
    instance is left on the host.
    """

    operation_id: int
    fence: int
    fault: Fault | None = None
    retriable: bool = False
    host_clean: bool = True
    power_state: PowerState | None = None
    network_info: tuple[Vif, ...] | None = None
    root_device_name: str | None = None
    devices: tuple[BlockDevice, ...] = ()
    """Block devices as they are now; the others are as they were."""
    devices_gone: tuple[str, ...] = ()
    """Uuids of block devices that the instance has no more."""
    share: ShareMapping | None = None
    """The share of ATTACH_SHARE as it is now."""
    result: dict[str, Any] = field(default_factory=dict)
    """What an errand has found out (see ERRANDS)."""
