"""The protocol between a compute host and a hypervisor. Every driver implements `Driver`; abilities that only some
drivers have are protocols of their own. Every driver passes `tests/suites/driver.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cell_service.model.block_device import BlockDevice
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.guest_agent import Quiesce
from cell_service.model.host import NodeReport, PowerAction
from cell_service.model.instance import InjectedFile, Instance, Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.migration import OutgoingMigration

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a guest. `image` is a local file with the initial content, as the image service sent it (None: blank,
    or the guest's existing disk); `image_format` is what the image's record claims.

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
    """The properties of a guest that is to be made."""

    instance: Instance
    disks: tuple[Disk, ...]
    nics: tuple[Vif, ...]
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = ""
    kernel: Path | None = None
    """The local files of an image that is booted without a loader, with `ramdisk` (None: no such image, or the guest's
    existing files)."""
    ramdisk: Path | None = None
    config_drive: tuple[DriveFile, ...] | None = None
    """None: the guest has no config drive, or keeps its existing one. Passwords and files on it are known only while
    the guest is built."""
    cell: str = ""
    """Name of the cell, when it is known."""
    fence: int = 0
    """The context of the operation."""

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
"""Called when the hypervisor answers again after a time without answers: the host may have been restarted. Must return
quickly; any thread."""


def unheard() -> None:
    """A listener that does nothing."""


class Driver(Protocol):
    """One hypervisor. Thread-safe. Verbs are blocking; each may be repeated safely.

    A guest that is not there: GuestNotFound, except where it says otherwise. Anything else that fails: DriverError.
    """

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        """Connect and begin to report power changes. Raises DriverError."""

    def stop(self) -> None:
        """Disconnect; guests keep running."""

    def nodes(self) -> tuple[NodeReport, ...]:
        """The nodes this driver manages, with what they have and use now."""

    def guests(self) -> tuple[Guest, ...]:
        """Every guest on the host, also those that other software made."""

    def power_state(self, uuid: str) -> PowerState:
        """The guest's state in the hypervisor now, not the last one that was requested."""

    def spawn(self, spec: GuestSpec) -> None:
        """Create and start the guest; after any error nothing of it is left. When it runs already, nothing happens.

        Raises ImageUnacceptable, HostOutOfSpace, DriverError.
        """

    def destroy(self, uuid: str) -> None:
        """Stop the guest and remove all that belongs to it. A guest that is not there is no error."""

    def power_on(self, spec: GuestSpec) -> None:
        """Start the guest from its disks. Running already: nothing happens."""

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        """Have the guest shut down, and turn it off after `graceful_seconds` (0: at once). Off already: no error."""

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        """Restart the guest. `hard` works from any power state, also for a guest whose definition was lost."""

    def pause(self, uuid: str) -> None: ...

    def unpause(self, uuid: str) -> None: ...

    def suspend(self, uuid: str) -> None:
        """Save the guest's memory to disk and stop it."""

    def resume(self, spec: GuestSpec) -> None:
        """Continue from saved memory. Running already: nothing happens."""


@runtime_checkable
class MachineTypes(Protocol):
    """A driver whose guests are machines of a type, which is recorded: a guest that was made as one stays one, whatever
    the host's settings say later."""

    def machine_type(self, instance: Instance) -> str:
        """The machine type of the instance's guest, by its image or by the host's settings. Raises DriverError."""


@runtime_checkable
class ConsoleLog(Protocol):
    """A driver that stores what guests print on their serial console."""

    def console_output(self, uuid: str) -> str:
        """The stored end of the console log."""


@runtime_checkable
class Receiving(Protocol):
    """A driver that can make a guest without starting it: for servers that come back from an image, or from a host that
    is down."""

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        """Make the guest here as `spec` says, not running. Without migrate data (see Movable) it is made from the disks
        of `spec`. A guest that is here already, and does not run, gets the size of `spec`, and the disks in another
        host's migrate data. After any error nothing new is left, and an existing guest is unchanged. Raises
        ImageUnacceptable, HostOutOfSpace, DriverError (also when it runs)."""


@runtime_checkable
class Resizable(Receiving, Protocol):
    """A driver that can give its guests another size: `receive` with the migrate data of a guest of this host."""

    def pack(self, uuid: str) -> dict[str, object]:
        """The migrate data of a guest that is off (JSON, understood by all drivers of the kind). Raises GuestNotFound,
        DriverError (also when it runs)."""


@runtime_checkable
class Movable(Resizable, Protocol):
    """A driver whose guests can move to another host, and from one: their migrate data has their disks.

    A guest that moves stays on its source host, not running, until `destroy`; so each move can be undone by starting it
    again.
    """

    def send(self, uuid: str) -> dict[str, object]:
        """The migrate data of a running (or paused) guest, taken while it ran; it is stopped when this returns, and
        `power_on` continues it. Sent already: the same migrate data. Raises GuestNotFound, DriverError."""

    def arrive(self, spec: GuestSpec, migrate_data: dict[str, object]) -> None:
        """Continue a guest that was sent while it ran, as it was there; on the host that sent it, as it was before. It
        runs already: nothing happens."""


@runtime_checkable
class LiveMigrations(Protocol):
    """A driver that reports and controls outgoing migrations (`Movable.send`)."""

    def outgoing_migration(self, uuid: str) -> OutgoingMigration | None:
        """The progress of the guest's outgoing migration; None when there is none."""

    def steer_migration(self, uuid: str, *, finish: bool) -> bool:
        """The guest's outgoing migration ends as soon as it can: force-completed (`finish`), or aborted, and the guest
        keeps running here. False: there is none now."""


@runtime_checkable
class Snapshots(Protocol):
    """A driver that can copy the root disk of a guest that is off."""

    def snapshot(self, uuid: str, target: Path) -> str:
        """Copy the guest's root disk to the file, from which a guest can be started. Returns its disk format. An
        earlier file of that name is replaced. Raises GuestNotFound, DriverError (also when the guest runs)."""


@runtime_checkable
class LiveSnapshots(Protocol):
    """A driver that can copy the root disk of a guest that runs, which goes on meanwhile."""

    def snapshot_running(self, uuid: str, target: Path, *, quiesce: Quiesce = Quiesce.NO) -> str:
        """As `Snapshots.snapshot`, in any power state; the copy is as after a power cut. With `quiesce` the guest's
        file systems are frozen at that moment, and never later. Raises GuestNotFound, DriverError (also when it has to
        be quiesced and runs, and can't be)."""


@runtime_checkable
class Passwords(Protocol):
    """A driver that can change a password in a guest that runs."""

    def set_admin_password(self, spec: GuestSpec, password: str) -> None:
        """Set the password of the guest's administrator. Raises GuestNotFound, GuestAgentNotEnabled, DriverError (also
        when it does not run, and when its agent does not answer)."""


@runtime_checkable
class Quiescing(Protocol):
    """A driver that can freeze the file systems of guests, by their guest agents."""

    def quiesced(self, uuid: str, quiesce: Quiesce) -> AbstractContextManager[None]:
        """The guest's file systems are frozen meanwhile, if it runs and `quiesce` says so; never longer. Raises
        GuestNotFound, DriverError (also when that is required and impossible)."""


@runtime_checkable
class CrashDumps(Protocol):
    """A driver that can make a guest write a dump of itself."""

    def trigger_crash_dump(self, uuid: str) -> None:
        """Send the guest an interrupt on which, if it is configured so, it writes its memory to disk. Raises
        GuestNotFound, DriverError (also when it does not run)."""


@runtime_checkable
class RemoteConsoles(Protocol):
    """A driver whose guests have consoles on ports of the host."""

    def remote_console(self, uuid: str, kind: str) -> ConsolePlace:
        """The place of the guest's console: novnc, spice-html5, spice-direct or serial (without the address that users
        open). Raises GuestNotFound, ConsoleTypeUnavailable, InstanceNotReady (while it is off), DriverError."""


@runtime_checkable
class Rescuable(Protocol):
    """A driver that can start a guest from another disk than its own."""

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        """Start the guest, which is off, from a new disk with the image of the root disk of `spec`; its own disks are
        attached behind that one, or with `stable` keep their places. Rescued already: the same again, from a new disk.
        Raises GuestNotFound, ImageUnacceptable, DriverError."""

    def unrescue(self, spec: GuestSpec) -> None:
        """Start the guest from its own disks, and remove the rescue disk. Not rescued: nothing happens. Raises
        GuestNotFound, DriverError."""


@runtime_checkable
class Interfaces(Protocol):
    """A driver that can attach network interfaces to a guest, and detach them, running or off."""

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        """Attach an interface for the port. Attached already: nothing happens. Raises GuestNotFound, DriverError."""

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        """Detach the port's interface. No such interface, or no such guest: no error. Raises DriverError."""


@runtime_checkable
class Attachable(Protocol):
    """A driver whose guests can have volumes. A guest is made and started with those that its instance has by then
    (`GuestSpec.instance`, `block_devices`); the host is connected to them."""

    def volume_connector(self) -> dict[str, Any]:
        """The properties of the host by which the block storage service lets it reach volumes, without its name."""

    def attach_volume(self, spec: GuestSpec, device: BlockDevice) -> None:
        """Attach the volume to the guest, running or not. Attached already: nothing happens. Raises GuestNotFound,
        DriverError."""

    def detach_volume(self, uuid: str, device: BlockDevice) -> None:
        """Detach the volume from the guest, which has released it then. No such guest, no such volume: no error. Raises
        DriverError, then the guest still has it; NotYet when only the host is still connected."""

    def disconnect_volume(self, uuid: str, volume_id: str) -> None:
        """Disconnect the host from the volume of a guest that is off, which is connected again when it starts. Not
        connected: no error. Raises DriverError (also when the guest runs)."""

    def extend_volume(self, uuid: str, device: BlockDevice) -> None:
        """Report the device's new size to the guest. Raises GuestNotFound, DriverError."""


@runtime_checkable
class Swapping(Attachable, Protocol):
    """A driver that can replace a volume of a guest by another one with its content, while the guest uses it."""

    def swap_volume(self, spec: GuestSpec, old: BlockDevice, new: BlockDevice, check: Callable[[], None]) -> None:
        """The guest has the new volume in place of the old one, with its content. Swapped already: nothing happens.

        `check` is called while the copy lasts; after an error of it the copy goes on, and a repeated call awaits it.
        Raises GuestNotFound, DriverError; then it may have either of them. Raises NotYet when it can't be undone, or
        when that is not known."""


@runtime_checkable
class SuspendedPlugging(Attachable, Protocol):
    """A driver that also attaches volumes to guests that are suspended, and detaches them."""

    plugs_suspended: bool


@runtime_checkable
class DrivePlugging(Attachable, Protocol):
    """A driver that also attaches volumes on SATA and IDE to guests that run, and detaches them."""

    plugs_drives: bool


@runtime_checkable
class Mountable(Protocol):
    """A driver whose guests can have shares. The instance's shares (`GuestSpec.instance`, `shares`) are mounted on the
    host and passed to its guest when that starts, and unmounted when it is off; the host has access by then."""

    def mounts(self, uuid: str) -> dict[str, str]:
        """The shares that the guest has now: the export location of each, by its tag. Raises GuestNotFound."""


@runtime_checkable
class Diagnosable(Protocol):
    """A driver that reports diagnostics of guests."""

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        """The guest's diagnostics as of now. Raises GuestNotFound, DriverError."""


@runtime_checkable
class HostSwitch(Protocol):
    """A driver that can switch its host off and on.

    While the host is off, or starting, every verb raises DriverError, and so does `nodes`. Its guests are off, which is
    not reported to the listener: so the cell still knows which of them ran, and those are started again. `returned` is
    called when the host is up.
    """

    def switch_host(self, action: PowerAction) -> None:
        """Switch the host off, or begin to start it. Nothing happens when it is so already. Raises Invalid for a reboot
        of a host that is off, DriverError."""

    def host_is_on(self) -> bool:
        """Whether the host is neither off nor starting. Raises DriverError."""


@runtime_checkable
class Maintainable(Protocol):
    """A driver whose host can be in maintenance, also across restarts."""

    def set_maintenance(self, on: bool) -> None:
        """Set whether the host is in maintenance: with `on`, `spawn` and `receive` raise DriverError for guests that
        are not here yet."""


@runtime_checkable
class VolumeSnapshots(Protocol):
    """A driver that can take snapshots of volumes which are files that its guests write to."""

    def snapshot_volume(self, uuid: str, device: BlockDevice, snapshot_id: str, new_file: str) -> None:
        """Make the guest write to the new file, which has the volume's old file as its backing file. Done already:
        nothing happens. Raises GuestNotFound, DriverError."""

    def remove_volume_snapshot(
        self, uuid: str, device: BlockDevice, snapshot_id: str, merged: str | None, target: str | None
    ) -> None:
        """Merge the first file into the second one (None: the one in use, its backing file), which ends the snapshot.
        Done already: nothing happens. Raises GuestNotFound, DriverError."""
