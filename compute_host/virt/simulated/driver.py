"""The driver of a simulated host."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace
from cell_service.model.block_device import BlockDevice
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import NodeReport, PowerAction
from cell_service.model.instance import Instance, Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.migration import OutgoingMigration
from compute_host.config import HostSettings
from compute_host.timers import Executor, Timer, Timers
from compute_host.virt import inspection
from compute_host.virt.driver import Guest, GuestSpec, PowerListener, Returned, unheard
from compute_host.virt.simulated import console, consoles, diagnostics, faults, node, snapshots
from compute_host.virt.simulated import migrations as travel
from compute_host.virt.simulated.outgoing_migrations import Trip, Trips
from compute_host.virt.simulated.state import Boot, Record, State
from compute_host.virt.simulated.switch import Switch

FROZEN_LOOK_SECONDS = 0.25
KEPT_BOOTS = 20


class SimulatedDriver:
    """See `virt.driver.Driver`, and the package's docstring."""

    def __init__(self, settings: HostSettings, timers: Timers, pool: Executor) -> None:
        self._settings, self._timers, self._pool = settings, timers, pool
        self._options = settings.simulated
        self._clock = timers.clock
        self._chance = random.Random()
        self._faults = faults.Faults(_fault_files(settings), self._chance)
        self._trips = Trips(self._clock)
        self._consoles = consoles.Consoles()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._listener: PowerListener | None = None
        self._watch: Timer | None = None
        self._state_or_none: State | None = None
        self._switch = Switch(lambda: self._state, timers, pool, self._options.host_boot_seconds)

    # -- the host ------------------------------------------------------------------------------------

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        self._answering("start")
        with self._lock:
            self._stopped.clear()
            self._state_or_none = self._state_or_none or State(self._settings.state)
            self._listener = listener
            self._switch.connect(self._state_or_none, returned)
            if self._watch is None:
                self._watch_later()

    def stop(self) -> None:
        self._stopped.set()
        self._trips.stop()
        self._consoles.stop()
        with self._lock:
            self._listener = None
            self._state_or_none = None
            if self._watch is not None:
                self._watch.cancel()
                self._watch = None

    def switch_host(self, action: PowerAction) -> None:
        self._switch.operate(action)

    def host_is_on(self) -> bool:
        return self._switch.is_on()

    def set_maintenance(self, on: bool) -> None:
        with self._lock:
            self._state.maintain(on)

    def nodes(self) -> tuple[NodeReport, ...]:
        self._answering("nodes")
        self._state.demand_on()
        return (node.report(self._settings, self._state.node_uuid, self._state.guests()),)

    def guests(self) -> tuple[Guest, ...]:
        self._answering("guests")
        self._state.demand_on()
        return tuple(Guest(guest.uuid, guest.power_state) for guest in self._state.guests())

    def power_state(self, uuid: str) -> PowerState:
        guest = self._state.get(uuid)
        self._answering("power_state", guest)
        self._state.demand_on()
        return guest.power_state

    def console_output(self, uuid: str) -> str:
        return console.render(self._state.get(uuid))

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        return diagnostics.of(self._state.get(uuid), self._clock.now())

    # -- guests --------------------------------------------------------------------------------------

    def spawn(self, spec: GuestSpec) -> None:
        instance, root = spec.instance, spec.disks[0]
        self._thawed()
        if self._is_made(instance.uuid):
            return
        if root.image is not None:
            inspection.check(root, instance.image_ref)
        try:
            self._make(spec)
            self._strike("spawn", instance.uuid, instance.display_name, instance.image_ref)
            self._take(self._options.boot_seconds)
        except DriverError:
            if not self._stopped.is_set():
                self._state.remove(instance.uuid)
            raise
        self._run(instance.uuid, "power on", made=True)

    def destroy(self, uuid: str) -> None:
        name = next((guest.name for guest in self._state.guests() if guest.uuid == uuid), "")
        self._thawed()
        self._strike("destroy", uuid, name)
        if name:
            self._take(self._options.verb_seconds)
        self._state.remove(uuid)
        self._consoles.forget(uuid)

    def power_on(self, spec: GuestSpec) -> None:
        guest = self._guest("power_on", spec.instance.uuid)
        self._share(spec)
        if guest.sent is not None:
            self._take(self._options.verb_seconds)
            self._state.change(guest.uuid, power_state=PowerState.RUNNING, sent=None)
        elif guest.power_state is not PowerState.RUNNING:
            self._take(self._options.boot_seconds)
            self._state.change(guest.uuid, volumes=_volumes(spec.instance.block_devices))
            self._run(guest.uuid, "power on")

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        guest = self._guest("power_off", uuid)
        if guest.power_state not in (PowerState.SHUTDOWN, PowerState.CRASHED):
            self._take(min(self._options.verb_seconds, graceful_seconds))
            self._halt(guest.uuid, PowerState.SHUTDOWN, "shutdown")

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        uuid = spec.instance.uuid
        if hard and not self._is_made(uuid):
            self._make(spec)
            self._state.change(uuid, made=True)
        guest = self._guest("reboot", uuid)
        if hard:
            self._share(spec)
        if not hard and guest.power_state is not PowerState.RUNNING:
            raise DriverError(reason="The guest does not run, so it cannot reboot by itself.")
        if guest.power_state is PowerState.RUNNING:
            self._halt(uuid, PowerState.SHUTDOWN, "reboot")
        self._take(self._options.verb_seconds)
        self._run(uuid, "hard reboot" if hard else "reboot")

    def pause(self, uuid: str) -> None:
        self._change_power("pause", uuid, PowerState.RUNNING, PowerState.PAUSED)

    def unpause(self, uuid: str) -> None:
        self._change_power("unpause", uuid, PowerState.PAUSED, PowerState.RUNNING)

    def suspend(self, uuid: str) -> None:
        self._change_power("suspend", uuid, PowerState.RUNNING, PowerState.SUSPENDED)

    def resume(self, spec: GuestSpec) -> None:
        self._change_power("resume", spec.instance.uuid, PowerState.SUSPENDED, PowerState.RUNNING)

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        guest = self._guest("attach_interface", spec.instance.uuid)
        if vif.mac not in guest.macs:
            self._take(self._options.verb_seconds)
            self._state.change(guest.uuid, macs=(*guest.macs, vif.mac))

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        if not self._is_made(uuid):
            return
        guest = self._guest("detach_interface", uuid)
        if vif.mac in guest.macs:
            self._take(self._options.verb_seconds)
            self._state.change(uuid, macs=tuple(mac for mac in guest.macs if mac != vif.mac))

    def pack(self, uuid: str) -> dict[str, object]:
        guest = self._guest("pack", uuid)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: its disks cannot be taken away.")
        self._take(self._options.verb_seconds)
        return travel.migration_data(self._state.get(uuid), self._state.node_uuid)

    def send(self, uuid: str) -> dict[str, object]:
        guest = self._made(uuid)
        if guest.sent is None:
            if guest.power_state not in travel.RUNS:
                raise DriverError(reason="The guest is off: there is nothing to be sent while it runs.")
            fault = self._faults.happening("send", uuid, guest.name)
            longer = fault.hang_seconds if fault is not None else 0.0
            with self._trips.of(uuid, guest.memory_mib, self._varied(self._options.live_seconds) + longer) as trip:
                self._go(trip)
            if fault is not None:
                faults.raise_for(fault)
            now = self._state.get(uuid).power_state
            if now not in travel.RUNS:
                raise DriverError(reason="The guest went off while it was sent.")
            guest = self._state.change(uuid, power_state=PowerState.PAUSED, sent=now)
        return travel.migration_data(guest, self._state.node_uuid)

    def outgoing_migration(self, uuid: str) -> OutgoingMigration | None:
        return self._trips.progress(uuid)

    def steer_migration(self, uuid: str, *, finish: bool) -> bool:
        return self._trips.steer(uuid, finish=finish)

    def snapshot(self, uuid: str, target: Path) -> str:
        guest = self._guest("snapshot", uuid)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: its disk cannot be copied.")
        self._take(self._options.verb_seconds)
        snapshots.write(self._state.get(uuid), target)
        return snapshots.FORMAT

    def snapshot_running(self, uuid: str, target: Path) -> str:
        self._guest("snapshot", uuid)
        self._take(self._options.verb_seconds)
        snapshots.write(self._state.get(uuid), target)
        return snapshots.FORMAT

    def set_admin_password(self, spec: GuestSpec, password: str) -> None:
        self._remark("set_admin_password", spec.instance.uuid, "the administrator has a new password")

    def trigger_crash_dump(self, uuid: str) -> None:
        self._remark("trigger_crash_dump", uuid, "NMI received, writing a crash dump")

    def remote_console(self, uuid: str, kind: str) -> ConsolePlace:
        guest = self._state.get(uuid)
        greeting = "RFB 003.008\n" if kind == "novnc" else f"\r\n{guest.hostname} login: "
        return ConsolePlace(consoles.ADDRESS, self._consoles.port(uuid, kind, greeting), "")

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        root = spec.disks[0]
        if root.image is not None:
            inspection.check(root, spec.instance.image_ref)
        guest = self._guest("rescue", spec.instance.uuid)
        self._share(spec)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: it cannot be rescued.")
        self._take(self._options.boot_seconds)
        self._state.change(guest.uuid, rescued=True)
        self._run(guest.uuid, "rescue, stable devices" if stable else "rescue")

    def unrescue(self, spec: GuestSpec) -> None:
        guest = self._guest("unrescue", spec.instance.uuid)
        if not guest.rescued and guest.power_state is PowerState.RUNNING:
            return
        self._halt(guest.uuid, PowerState.SHUTDOWN, "shutdown")
        self._take(self._options.boot_seconds)
        self._state.change(guest.uuid, rescued=False)
        self._run(guest.uuid, "power on")

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        uuid, root = spec.instance.uuid, spec.disks[0]
        self._thawed()
        here = self._state.get(uuid) if self._is_made(uuid) else None
        if here is not None and here.power_state in travel.ALIVE:
            raise DriverError(reason="A guest of this uuid is running here.")
        if migrate_data is None and root.image is not None and here is None:
            inspection.check(root, spec.instance.image_ref)
        stays = here is not None and (migrate_data is None or travel.is_own(migrate_data, self._state.node_uuid))
        try:
            if here is not None:
                after = travel.resized(here, spec) if stays else travel.unpacked(migrate_data or {}, spec)
            else:
                blank = snapshots.grown_from(self._blank(spec), root.image)
                new = replace(blank, power_state=PowerState.SHUTDOWN, made=True)
                after = new if migrate_data is None else travel.unpacked(migrate_data, spec)
                self._admit(replace(after, made=False))
            self._strike("receive", uuid, spec.instance.display_name, spec.instance.image_ref)
            self._take(self._options.verb_seconds if stays or migrate_data is None else self._options.move_seconds)
            self._admit(after)
        except DriverError:
            if here is None and not self._stopped.is_set():
                self._state.remove(uuid)
            raise

    def arrive(self, spec: GuestSpec, migrate_data: dict[str, object]) -> None:
        guest = self._guest("arrive", spec.instance.uuid)
        state = travel.guest_in(migrate_data).power_state
        if guest.power_state is PowerState.RUNNING or (guest.power_state is state and guest.sent is None):
            return
        self._take(self._options.verb_seconds)
        after = guest if guest.sent is not None else travel.remarked(guest, "live migrated")
        self._state.change(guest.uuid, power_state=state, boots=after.boots, sent=None)

    def attach_volume(self, uuid: str, device: BlockDevice) -> None:
        guest = self._guest("attach_volume", uuid)
        self._take(self._options.verb_seconds)
        attached = {**guest.volumes, **_volumes((device,))}
        self._state.change(uuid, volumes=attached)

    def detach_volume(self, uuid: str, device: BlockDevice) -> None:
        try:
            guest = self._guest("detach_volume", uuid)
        except GuestNotFound:
            return
        self._take(self._options.verb_seconds)
        left = {name: size for name, size in guest.volumes.items() if name != device.volume_id}
        taken = {key: one for key, one in guest.volume_snapshots.items() if one[0] != device.volume_id}
        self._state.change(uuid, volumes=left, volume_snapshots=taken)

    def extend_volume(self, uuid: str, device: BlockDevice) -> None:
        self.attach_volume(uuid, device)

    def snapshot_volume(self, uuid: str, device: BlockDevice, snapshot_id: str, new_file: str) -> None:
        guest = self._guest("snapshot_volume", uuid)
        if device.volume_id not in guest.volumes:
            raise DriverError(reason=f"The guest does not have the volume {device.volume_id}.")
        self._take(self._options.verb_seconds)
        taken = self._state.get(uuid).volume_snapshots | {snapshot_id: (device.volume_id, new_file)}
        self._state.change(uuid, volume_snapshots=taken)

    def remove_volume_snapshot(
        self, uuid: str, device: BlockDevice, snapshot_id: str, merged: str | None, target: str | None
    ) -> None:
        self._guest("remove_volume_snapshot", uuid)
        self._take(self._options.verb_seconds)
        taken = self._state.get(uuid).volume_snapshots
        self._state.change(uuid, volume_snapshots={key: one for key, one in taken.items() if key != snapshot_id})

    def volume_snapshots(self, uuid: str) -> dict[str, tuple[str, str]]:
        """The snapshots of the guest's volumes: their volumes and files. Raises GuestNotFound."""
        return self._state.get(uuid).volume_snapshots

    def volumes(self, uuid: str) -> dict[str, int]:
        """The guest's volumes, and their sizes as it sees them, in GiB. Raises GuestNotFound."""
        return self._state.get(uuid).volumes

    def mounts(self, uuid: str) -> dict[str, str]:
        guest = self._state.get(uuid)
        return guest.shares if guest.power_state in travel.ALIVE else {}

    def happen(self, uuid: str, does: str) -> None:
        """Let the guest do something by itself: `shutdown`, `crash` or `start`. Raises GuestNotFound."""
        guest = self._state.get(uuid)
        if does == "start":
            self._run(guest.uuid, "power on")
        else:
            self._halt(guest.uuid, PowerState.CRASHED if does == "crash" else PowerState.SHUTDOWN, does)
        if self._listener is not None:
            self._listener(uuid, self._state.get(uuid).power_state)

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        state = self._state_or_none
        if state is None:
            raise DriverError(reason="The driver is not connected.")
        return state

    def _is_made(self, uuid: str) -> bool:
        return any(guest.uuid == uuid and guest.made for guest in self._state.guests())

    def _make(self, spec: GuestSpec) -> None:
        """Record the guest, not running yet, if there is capacity for it. Raises HostOutOfSpace."""
        self._admit(self._blank(spec))

    def _blank(self, spec: GuestSpec) -> Record:
        """A guest that was never started."""
        instance, flavor = spec.instance, spec.instance.flavor
        return Record(
            uuid=instance.uuid,
            name=instance.display_name,
            hostname=instance.hostname or instance.display_name,
            vcpus=flavor.vcpus,
            memory_mib=flavor.memory_mib,
            disk_gib=sum(disk.size_gib for disk in spec.disks),
            power_state=PowerState.NOSTATE,
            made=False,
            macs=tuple(nic.mac for nic in spec.nics),
            image=instance.image_ref,
            config_drive=spec.config_drive is not None or instance.config_drive,
            volumes=_volumes(instance.block_devices),
            shares=_shares(instance),
        )

    def _share(self, spec: GuestSpec) -> None:
        """Mount the instance's shares for a guest that starts now."""
        guest, shares = self._state.get(spec.instance.uuid), _shares(spec.instance)
        if guest.shares != shares:
            self._state.change(guest.uuid, shares=shares)

    def _admit(self, record: Record) -> None:
        """Store the record, in place of the guest's earlier one, if there is capacity for it. Raises HostOutOfSpace."""
        with self._lock:
            others = [guest for guest in self._state.guests() if guest.uuid != record.uuid]
            if self._state.maintenance and len(others) == len(self._state.guests()):
                raise DriverError(reason="The host is in maintenance: it takes no guests.")
            self._check_space([*others, record])
            self._state.put(record)

    def _check_space(self, guests: list[Record]) -> None:
        options, ratios, reserved = self._options, self._settings.ratios, self._settings.reserved
        vcpus, memory_mib, disk_gib = node.used(guests)
        for what, wanted, there in (
            ("vCPUs", vcpus, (options.vcpus - reserved.vcpus) * ratios.cpu),
            ("MiB of memory", memory_mib, (options.memory_mib - reserved.memory_mib) * ratios.ram),
            ("GiB of disk", disk_gib, (options.disk_gib - reserved.disk_gib) * ratios.disk),
        ):
            if wanted > there:
                raise HostOutOfSpace(reason=f"The host would need {wanted} {what} and has {there:.0f}.")

    def _run(self, uuid: str, how: str, *, made: bool | None = None) -> None:
        guest = self._state.get(uuid)
        boots, notes = (*guest.boots, Boot(self._clock.now(), how)), guest.notes
        while len(notes) < len(boots) - 1:
            notes = (*notes, "power off")
        if len(boots) > KEPT_BOOTS:
            boots, notes = boots[-KEPT_BOOTS:], notes[-KEPT_BOOTS + 1 :]
        made = guest.made if made is None else made
        self._state.change(uuid, power_state=PowerState.RUNNING, boots=boots, notes=notes, made=made, sent=None)

    def _halt(self, uuid: str, state: PowerState, note: str) -> None:
        guest = self._state.get(uuid)
        notes = guest.notes
        if len(notes) < len(guest.boots):
            notes = (*notes, note)
        self._state.change(uuid, power_state=state, notes=notes, sent=None)

    def _remark(self, verb: str, uuid: str, remark: str) -> None:
        """Print the remark on the running guest's console."""
        guest = self._guest(verb, uuid)
        if guest.power_state not in travel.RUNS:
            raise DriverError(reason=f"The guest is {guest.power_state.name.lower()}: cannot {verb}.")
        self._take(self._options.verb_seconds)
        self._state.change(uuid, boots=travel.remarked(guest, remark).boots)

    def _change_power(self, verb: str, uuid: str, before: PowerState, after: PowerState) -> None:
        guest = self._guest(verb, uuid)
        if guest.power_state is after:
            return
        if guest.power_state is not before:
            raise DriverError(reason=f"The guest is {guest.power_state.name.lower()}: cannot {verb} it.")
        self._take(self._options.verb_seconds)
        self._state.change(uuid, power_state=after, sent=None)

    def _guest(self, verb: str, uuid: str) -> Record:
        """The guest that a verb works on. Raises GuestNotFound, and the configured fault."""
        guest = self._made(uuid)
        self._strike(verb, uuid, guest.name)
        return self._state.get(uuid)

    def _made(self, uuid: str) -> Record:
        """The guest, on a host that is not frozen. Raises GuestNotFound."""
        if not self._state.get(uuid).made:
            raise GuestNotFound(uuid=uuid)
        self._thawed()
        return self._state.get(uuid)

    def _thawed(self) -> None:
        """While the host is frozen, no verb begins. Raises DriverError when it is off."""
        while self._faults.frozen():
            self._wait(FROZEN_LOOK_SECONDS)
        self._state.demand_on()

    def _strike(self, verb: str, uuid: str, name: str, image_id: str = "") -> None:
        fault = self._faults.happening(verb, uuid, name)
        if fault is not None:
            self._wait(fault.hang_seconds)
            faults.raise_for(fault, image_id)

    def _answering(self, verb: str, guest: Record | None = None) -> None:
        """Raises DriverError when the host is frozen, or a fault of this report is configured."""
        if self._faults.frozen():
            raise DriverError(reason="The host does not answer.")
        fault = self._faults.happening(verb, guest.uuid if guest else "", guest.name if guest else "")
        if fault is not None:
            faults.raise_for(fault)

    def _take(self, seconds: float) -> None:
        """Wait for the time that something takes."""
        self._wait(self._varied(seconds))

    def _varied(self, seconds: float) -> float:
        spread = self._options.jitter
        return seconds * self._chance.uniform(1 - spread, 1 + spread)

    def _go(self, trip: Trip) -> None:
        """Wait for the time of the migration, unless it is aborted or force-completed."""
        if trip.seconds > 0 and not self._stopped.is_set():
            self._clock.wait(trip.steered, trip.seconds)
        if self._stopped.is_set():
            raise DriverError(reason="The driver was stopped.")

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._clock.wait(self._stopped, seconds)
        if self._stopped.is_set():
            raise DriverError(reason="The driver was stopped.")

    def _watch_later(self) -> None:
        self._watch = self._timers.after(self._options.watch_seconds, self._pool, self._poll_guests)

    def _poll_guests(self) -> None:
        """Make guests do what their faults say, and check again later."""
        try:
            if not self._stopped.is_set() and self._faults.any_for_guests():
                for guest in self._state.guests():
                    if guest.power_state is PowerState.RUNNING:
                        fault = self._faults.happening("guest", guest.uuid, guest.name)
                        if fault is not None:
                            self.happen(guest.uuid, fault.does)
        except DriverError:
            return  # stopped, or the guest was removed meanwhile
        finally:
            with self._lock:
                if not self._stopped.is_set() and self._watch is not None:
                    self._watch_later()


def _volumes(devices: Iterable[BlockDevice]) -> dict[str, int]:
    return {device.volume_id: device.volume_size or 0 for device in devices if device.is_volume and device.volume_id}


def _shares(instance: Instance) -> dict[str, str]:
    return {one.tag: one.export_location for one in instance.shares if one.usable}


def _fault_files(settings: HostSettings) -> tuple[Path, ...]:
    own = settings.state / "faults.json"
    shared = settings.simulated.faults_file
    return (own,) if shared is None else (own, Path(shared))
