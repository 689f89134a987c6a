"""What a compute host asks of a hypervisor. `Driver` is all that every driver must do; abilities that only some
have are protocols of their own. Every driver passes `tests/suites/driver.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from cell_service.model.block_device import BlockDevice
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import NodeReport, PowerAction
from cell_service.model.instance import InjectedFile, Instance, Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.migration import OutgoingMigration

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a guest. `image` is a local file to start from, as the image service gave it (None: blank, or what
    the guest has already); `image_format` is what the image's record claims.

    `role`: root, ephemeral or swap.
    """

    role: str
    size_bytes: int
    image: Path | None = None
    image_format: str = ""
    image_virtual_bytes: int = 0

    @property
    def size_gib(self) -> int:
        """Whole GiB, rounded up."""
        return -(-self.size_bytes // GIB)


@dataclass(frozen=True, slots=True)
class DriveFile:
    """A file on a config drive. `path` is relative, with slashes."""

    path: str
    content: bytes


_IMAGE = "image_"


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """All that a driver needs to make a guest."""

    instance: Instance
    disks: tuple[Disk, ...]
    nics: tuple[Vif, ...]
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = ""
    kernel: Path | None = None
    """With `ramdisk`: local files of an image that is booted without a loader (None: no such image, or what the
    guest has already)."""
    ramdisk: Path | None = None
    config_drive: tuple[DriveFile, ...] | None = None
    """None: the guest has no config drive, or the one that it has already. Passwords and files that stand on it are
    known only while the guest is built."""
    cell: str = ""
    """Name of the cell, when it is known."""
    fence: int = 0
    """Of the operation that this is done for."""

    @property
    def image_properties(self) -> dict[str, str]:
        """The properties of the image that the guest was made from, under their own names (hw_*, os_*, img_*)."""
        known = self.instance.system_metadata
        return {name[len(_IMAGE) :]: value for name, value in known.items() if name.startswith(_IMAGE)}


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as the hypervisor sees it now."""

    uuid: str
    power_state: PowerState


PowerListener = Callable[[str, PowerState], None]
"""Called with uuid and the new state when a guest changes by itself. Must return quickly; any thread."""

Returned = Callable[[], None]
"""Called when the hypervisor answers again after it was away: the host may have been started anew. Must return quickly;
any thread."""


def unheard() -> None:
    """Nobody wants to know."""


class Driver(Protocol):
    """One hypervisor. Thread-safe. Verbs are blocking; each may be repeated safely.

    A guest that is not there: GuestNotFound, except where it says otherwise. Anything else that fails: DriverError.
    """

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        """Connect and begin to report power changes. Raises DriverError."""

    def stop(self) -> None:
        """Disconnect; guests run on."""

    def nodes(self) -> tuple[NodeReport, ...]:
        """The nodes this driver manages, with what they have and use now."""

    def guests(self) -> tuple[Guest, ...]:
        """Every guest on the host, whoever made it."""

    def power_state(self, uuid: str) -> PowerState:
        """What the hypervisor says now, not what was last asked of it."""

    def spawn(self, spec: GuestSpec) -> None:
        """Create and start the guest; after any error nothing of it is left. When it runs already, nothing happens.

        Raises ImageUnacceptable, HostOutOfSpace, DriverError.
        """

    def destroy(self, uuid: str) -> None:
        """Stop the guest and remove all that belongs to it. A guest that is not there is no error."""

    def power_on(self, spec: GuestSpec) -> None:
        """Start the guest from its disks. Running already: nothing happens."""

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        """Ask the guest to shut down, pull the plug after `graceful_seconds` (0: at once). Off already: nothing."""

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        """Restart the guest. `hard` works from any power state, also for a guest whose definition was lost."""

    def pause(self, uuid: str) -> None: ...

    def unpause(self, uuid: str) -> None: ...

    def suspend(self, uuid: str) -> None:
        """Save the guest's memory to disk and stop it."""

    def resume(self, spec: GuestSpec) -> None:
        """Go on from saved memory. Running already: nothing happens."""


@runtime_checkable
class ConsoleLog(Protocol):
    """A driver that keeps what guests print on their serial console."""

    def console_output(self, uuid: str) -> str:
        """All that is kept of the console log."""


@runtime_checkable
class Movable(Protocol):
    """A driver whose guests can go to another host, and come from one.

    Migrate data is JSON: what one driver of the kind gives, another takes. A guest that goes stays where it is, not
    running, until `destroy`; so each move can be undone by starting it again.
    """

    def pack(self, uuid: str) -> dict[str, object]:
        """The migrate data of a guest that is off, disks and all. Raises GuestNotFound, DriverError (also when it
        runs)."""

    def send(self, uuid: str) -> dict[str, object]:
        """The migrate data of a running (or paused) guest, taken while it ran; it stands still when this returns, and
        goes on by `power_on`. Sent already: the same migrate data. Raises GuestNotFound, DriverError."""

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        """The guest is here as `spec` says and does not run. Without migrate data it is made from the disks of `spec`.
        There already, and not running: it is given the size that `spec` says, and the disks in another host's
        migrate data. After any error nothing new is left, and what was there is as it was. Raises ImageUnacceptable,
        HostOutOfSpace, DriverError (also when it runs)."""

    def arrive(self, spec: GuestSpec, migrate_data: dict[str, object]) -> None:
        """A guest that was sent while it ran goes on here as it was there; where it was sent from, as it was. Runs
        already: nothing happens."""


@runtime_checkable
class LiveMigrations(Protocol):
    """A driver that can be asked about guests that are being sent to another host (`Movable.send`)."""

    def sending(self, uuid: str) -> OutgoingMigration | None:
        """How far it is; None when the guest is not being sent now."""

    def steer_sending(self, uuid: str, *, finish: bool) -> bool:
        """The sending that is under way ends as soon as it can: done (`finish`), or given up, the guest running on.
        False: the guest is not being sent now."""


@runtime_checkable
class Snapshots(Protocol):
    """A driver that can copy the root disk of a guest that is off."""

    def snapshot(self, uuid: str, target: Path) -> str:
        """The file holds all that is on the guest's root disk, and can be started from. Answers its disk format. An
        earlier file of that name is replaced. Raises GuestNotFound, DriverError (also when the guest runs)."""


@runtime_checkable
class LiveSnapshots(Protocol):
    """A driver that can copy the root disk of a guest that runs, which goes on meanwhile."""

    def snapshot_running(self, uuid: str, target: Path) -> str:
        """As `Snapshots.snapshot`, in any power state; as after a power cut. Raises GuestNotFound, DriverError."""


@runtime_checkable
class Passwords(Protocol):
    """A driver that can change a password in a guest that runs."""

    def set_admin_password(self, spec: GuestSpec, password: str) -> None:
        """The guest's administrator has this password. Raises GuestNotFound, NotSupported, DriverError."""


@runtime_checkable
class CrashDumps(Protocol):
    """A driver that can make a guest write a dump of itself."""

    def trigger_crash_dump(self, uuid: str) -> None:
        """The guest has had an interrupt at which, if it is made so, it writes its memory to disk. Raises
        GuestNotFound, DriverError (also when it does not run)."""


@runtime_checkable
class RemoteConsoles(Protocol):
    """A driver whose guests have consoles on ports of the host."""

    def remote_console(self, uuid: str, kind: str) -> ConsolePlace:
        """Where the guest's console is: novnc, spice-html5 or serial (without the address that users open). Raises
        GuestNotFound, ConsoleTypeUnavailable, DriverError."""


@runtime_checkable
class Rescuable(Protocol):
    """A driver that can start a guest from another disk than its own."""

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        """The guest, which is off, runs from a new disk that begins as the root disk of `spec`; its own are attached
        behind that one, or with `stable` where they always are. Rescued already: the same again, from a new disk.
        Raises GuestNotFound, ImageUnacceptable, DriverError."""

    def unrescue(self, spec: GuestSpec) -> None:
        """The guest runs from its own disks, and the rescue disk is gone. So already: nothing happens. Raises
        GuestNotFound, DriverError."""


@runtime_checkable
class Interfaces(Protocol):
    """A driver that can give a guest another network card, and take one away, running or off."""

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        """The guest has a card for the port. Has it already: nothing happens. Raises GuestNotFound, DriverError."""

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        """The guest has no card for the port. Has none, or is not there: no error. Raises DriverError."""


@runtime_checkable
class Attachable(Protocol):
    """A driver whose guests can have volumes. A guest is made with those that its instance has (`GuestSpec.instance`,
    `block_devices`); the host is connected to them by then."""

    def attach_volume(self, uuid: str, device: BlockDevice) -> None:
        """The guest has the volume, running or not. It has it already: nothing happens. Raises GuestNotFound,
        DriverError."""

    def detach_volume(self, uuid: str, device: BlockDevice) -> None:
        """The guest does not have the volume. No such guest, no such volume: no error. Raises DriverError."""

    def extend_volume(self, uuid: str, device: BlockDevice) -> None:
        """The guest sees the size that the device has now. Raises GuestNotFound, DriverError."""


@runtime_checkable
class Mountable(Protocol):
    """A driver whose guests can have shares. What an instance has (`GuestSpec.instance`, `shares`) is mounted on the
    host and handed to its guest when that starts, and is mounted no more when it is off; the host is let in by then."""

    def mounts(self, uuid: str) -> dict[str, str]:
        """What the guest has of them now: where each comes from, by its tag. Raises GuestNotFound."""


@runtime_checkable
class Diagnosable(Protocol):
    """A driver that can tell how a guest is doing."""

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        """As of now. Raises GuestNotFound, DriverError."""


@runtime_checkable
class HostSwitch(Protocol):
    """A driver that can switch its host off and on.

    While the host is off, or starting, every verb raises DriverError, and so does `nodes`. Its guests are off, of which
    the listener hears nothing: that the cell last knew them running is how those are found that run again. `returned`
    is called when the host is up.
    """

    def switch_host(self, action: PowerAction) -> None:
        """The host is off, or it has begun to start. So already: nothing happens. Raises Invalid for a reboot of a host
        that is off, DriverError."""

    def host_is_on(self) -> bool:
        """Neither off nor starting. Raises DriverError."""


@runtime_checkable
class Maintainable(Protocol):
    """A driver whose host can be in maintenance, also across restarts."""

    def set_maintenance(self, on: bool) -> None:
        """`spawn` and `receive` raise DriverError for guests that are not here yet; with `on` false not any more."""


@runtime_checkable
class VolumeSnapshots(Protocol):
    """A driver that can take snapshots of volumes which are files that its guests write to."""

    def snapshot_volume(self, uuid: str, device: BlockDevice, snapshot_id: str, new_file: str) -> None:
        """The guest writes to the new file, behind which is what the volume was. So already: nothing happens. Raises
        GuestNotFound, DriverError."""

    def remove_volume_snapshot(
        self, uuid: str, device: BlockDevice, snapshot_id: str, merged: str | None, target: str | None
    ) -> None:
        """The first file's content is in the second one (None: the one in use, the one behind it), and the snapshot is
        not there any more. So already: nothing happens. Raises GuestNotFound, DriverError."""
