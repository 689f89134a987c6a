"""The driver of a simulated host."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cell_service.errors import DriverError, GuestNotFound, InstanceNotReady
from cell_service.model.block_device import BlockDevice
from cell_service.model.console import ConsolePlace
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.guest_agent import Quiesce
from cell_service.model.host import NodeReport, PowerAction
from cell_service.model.instance import Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.migration import OutgoingMigration
from compute_host.config import HostSettings
from compute_host.timers import Executor, Timers
from compute_host.virt import inspection
from compute_host.virt.driver import Guest, GuestSpec, PowerListener, Returned, unheard
from compute_host.virt.simulated import console, consoles, diagnostics, faults, guest_agent, node, snapshots
from compute_host.virt.simulated import migrations as travel
from compute_host.virt.simulated.guests import Guests, volumes_of
from compute_host.virt.simulated.outgoing_migrations import Trips
from compute_host.virt.simulated.pace import Pace
from compute_host.virt.simulated.state import State
from compute_host.virt.simulated.switch import Switch
from compute_host.virt.simulated.watch import Watch


class SimulatedDriver:
    """See `virt.driver.Driver`, and the package's docstring."""

    plugs_suspended = plugs_drives = True

    def __init__(self, settings: HostSettings, timers: Timers, pool: Executor) -> None:
        self._settings, self._options, self._clock = settings, settings.simulated, timers.clock
        self._pace = Pace(settings, timers.clock)
        self._guests = Guests(settings, timers.clock, self._pace)
        self._trips, self._consoles = Trips(self._clock), consoles.Consoles()
        self._lock = threading.Lock()
        self._listener: PowerListener | None = None
        self._watch = Watch(self._guests, timers, pool, self._options.watch_seconds, self.happen)
        self._switch = Switch(lambda: self._state, timers, pool, self._options.host_boot_seconds)

    # -- the host ------------------------------------------------------------------------------------

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        self._pace.demand_answer("start")
        with self._lock:
            self._pace.stopped.clear()
            self._listener = listener
            self._switch.connect(self._guests.connect(), returned)
            self._watch.start()

    def stop(self) -> None:
        self._pace.stopped.set()
        self._trips.stop()
        self._consoles.stop()
        with self._lock:
            self._watch.stop()
            self._listener = None
            self._guests.disconnect()

    def switch_host(self, action: PowerAction) -> None:
        self._switch.operate(action)

    def host_is_on(self) -> bool:
        return self._switch.is_on()

    def set_maintenance(self, on: bool) -> None:
        self._guests.set_maintenance(on)

    def nodes(self) -> tuple[NodeReport, ...]:
        self._pace.demand_answer("nodes")
        self._state.demand_on()
        return (node.report(self._settings, self._state.node_uuid, self._state.guests()),)

    def guests(self) -> tuple[Guest, ...]:
        self._pace.demand_answer("guests")
        self._state.demand_on()
        return tuple(Guest(guest.uuid, guest.power_state) for guest in self._state.guests())

    def power_state(self, uuid: str) -> PowerState:
        guest = self._state.get(uuid)
        self._pace.demand_answer("power_state", guest)
        self._state.demand_on()
        return guest.power_state

    def console_output(self, uuid: str) -> str:
        return console.render(self._state.get(uuid))

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        return diagnostics.of(self._state.get(uuid), self._clock.now())

    # -- guests --------------------------------------------------------------------------------------

    def spawn(self, spec: GuestSpec) -> None:
        instance, root = spec.instance, spec.disks[0]
        self._guests.demand_thawed()
        if self._guests.is_made(instance.uuid):
            return
        if root.image is not None:
            inspection.check(root, instance.image_ref, self._settings.vmdk_kinds)
        try:
            self._guests.make(spec)
            self._pace.strike("spawn", instance.uuid, instance.display_name, instance.image_ref)
            self._pace.take(self._options.boot_seconds)
        except DriverError:
            if not self._pace.stopped.is_set():
                self._state.remove(instance.uuid)
            raise
        self._guests.run(instance.uuid, "power on", made=True)

    def destroy(self, uuid: str) -> None:
        name = next((guest.name for guest in self._state.guests() if guest.uuid == uuid), "")
        self._guests.demand_thawed()
        self._pace.strike("destroy", uuid, name)
        if name:
            self._pace.take(self._options.verb_seconds)
        self._state.remove(uuid)
        self._consoles.forget(uuid)

    def power_on(self, spec: GuestSpec) -> None:
        guest = self._guests.guest("power_on", spec.instance.uuid)
        self._guests.share(spec)
        if guest.sent is not None:
            self._pace.take(self._options.verb_seconds)
            self._state.change(guest.uuid, power_state=PowerState.RUNNING, sent=None)
        elif guest.power_state is not PowerState.RUNNING:
            self._pace.take(self._options.boot_seconds)
            self._state.change(guest.uuid, volumes=volumes_of(spec.instance.block_devices))
            self._guests.run(guest.uuid, "power on")

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        guest = self._guests.guest("power_off", uuid)
        if guest.power_state not in (PowerState.SHUTDOWN, PowerState.CRASHED):
            self._pace.take(min(self._options.verb_seconds, graceful_seconds))
            self._guests.halt(guest.uuid, PowerState.SHUTDOWN, "shutdown")

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        uuid = spec.instance.uuid
        if hard and not self._guests.is_made(uuid):
            self._guests.make(spec)
            self._state.change(uuid, made=True)
        guest = self._guests.guest("reboot", uuid)
        if hard:
            self._guests.share(spec)
        if not hard and guest.power_state is not PowerState.RUNNING:
            raise DriverError(reason="The guest does not run, so it cannot reboot by itself.")
        if guest.power_state is PowerState.RUNNING:
            self._guests.halt(uuid, PowerState.SHUTDOWN, "reboot")
        self._pace.take(self._options.verb_seconds)
        if hard:
            self._state.change(uuid, volumes=volumes_of(spec.instance.block_devices))
        self._guests.run(uuid, "hard reboot" if hard else "reboot")

    def pause(self, uuid: str) -> None:
        self._guests.change_power("pause", uuid, PowerState.RUNNING, PowerState.PAUSED)

    def unpause(self, uuid: str) -> None:
        self._guests.change_power("unpause", uuid, PowerState.PAUSED, PowerState.RUNNING)

    def suspend(self, uuid: str) -> None:
        self._guests.change_power("suspend", uuid, PowerState.RUNNING, PowerState.SUSPENDED)

    def resume(self, spec: GuestSpec) -> None:
        self._guests.change_power("resume", spec.instance.uuid, PowerState.SUSPENDED, PowerState.RUNNING)

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        guest = self._guests.guest("attach_interface", spec.instance.uuid)
        if vif.mac not in guest.macs:
            self._pace.take(self._options.verb_seconds)
            self._state.change(guest.uuid, macs=(*guest.macs, vif.mac))

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        if not self._guests.is_made(uuid):
            return
        guest = self._guests.guest("detach_interface", uuid)
        if vif.mac in guest.macs:
            self._pace.take(self._options.verb_seconds)
            self._state.change(uuid, macs=tuple(mac for mac in guest.macs if mac != vif.mac))

    def pack(self, uuid: str) -> dict[str, object]:
        guest = self._guests.guest("pack", uuid)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: its disks cannot be taken away.")
        self._pace.take(self._options.verb_seconds)
        return travel.migration_data(self._state.get(uuid), self._state.node_uuid)

    def send(self, uuid: str) -> dict[str, object]:
        guest = self._guests.made(uuid)
        if guest.sent is None:
            if guest.power_state not in travel.RUNS:
                raise DriverError(reason="The guest is off: there is nothing to be sent while it runs.")
            fault = self._pace.faults.happening("send", uuid, guest.name)
            longer = fault.hang_seconds if fault is not None else 0.0
            with self._trips.of(uuid, guest.memory_mib, self._pace.varied(self._options.live_seconds) + longer) as trip:
                self._pace.travel(trip)
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
        guest = self._guests.guest("snapshot", uuid)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: its disk cannot be copied.")
        self._pace.take(self._options.verb_seconds)
        snapshots.write(self._state.get(uuid), target)
        return snapshots.FORMAT

    def snapshot_running(self, uuid: str, target: Path, *, quiesce: Quiesce = Quiesce.NO) -> str:
        self._guests.guest("snapshot", uuid)
        self._pace.take(self._options.verb_seconds)
        with self.quiesced(uuid, quiesce):
            snapshots.write(self._state.get(uuid), target)
        return snapshots.FORMAT

    def quiesced(self, uuid: str, quiesce: Quiesce) -> AbstractContextManager[None]:
        return guest_agent.quiesced(self._guests, uuid, quiesce)

    def set_admin_password(self, spec: GuestSpec, password: str) -> None:
        guest_agent.demand(spec.instance)
        self._guests.remark("set_admin_password", spec.instance.uuid, "the administrator has a new password")

    def trigger_crash_dump(self, uuid: str) -> None:
        self._guests.remark("trigger_crash_dump", uuid, "NMI received, writing a crash dump")

    def remote_console(self, uuid: str, kind: str) -> ConsolePlace:
        guest = self._state.get(uuid)
        if guest.power_state not in travel.ALIVE:
            raise InstanceNotReady(instance_uuid=uuid)
        return ConsolePlace(consoles.ADDRESS, self._consoles.port(uuid, kind, guest.hostname), "")

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        root = spec.disks[0]
        if root.image is not None:
            inspection.check(root, spec.instance.image_ref)
        guest = self._guests.guest("rescue", spec.instance.uuid)
        self._guests.share(spec)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason="The guest is not off: it cannot be rescued.")
        self._pace.take(self._options.boot_seconds)
        self._state.change(guest.uuid, rescued=True)
        self._guests.run(guest.uuid, "rescue, stable devices" if stable else "rescue")

    def unrescue(self, spec: GuestSpec) -> None:
        guest = self._guests.guest("unrescue", spec.instance.uuid)
        if not guest.rescued and guest.power_state is PowerState.RUNNING:
            return
        self._guests.halt(guest.uuid, PowerState.SHUTDOWN, "shutdown")
        self._pace.take(self._options.boot_seconds)
        self._state.change(guest.uuid, rescued=False)
        self._guests.run(guest.uuid, "power on")

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        uuid, root = spec.instance.uuid, spec.disks[0]
        self._guests.demand_thawed()
        here = self._state.get(uuid) if self._guests.is_made(uuid) else None
        if here is not None and here.power_state in travel.ALIVE:
            raise DriverError(reason="A guest of this uuid is running here.")
        if migrate_data is None and root.image is not None and here is None:
            inspection.check(root, spec.instance.image_ref)
        stays = here is not None and (migrate_data is None or travel.is_own(migrate_data, self._state.node_uuid))
        try:
            if here is not None:
                after = travel.resized(here, spec) if stays else travel.unpacked(migrate_data or {}, spec)
            else:
                blank = snapshots.grown_from(self._guests.blank(spec), root.image)
                new = replace(blank, power_state=PowerState.SHUTDOWN, made=True)
                after = new if migrate_data is None else travel.unpacked(migrate_data, spec)
                self._guests.admit(replace(after, made=False))
            self._pace.strike("receive", uuid, spec.instance.display_name, spec.instance.image_ref)
            self._pace.take(self._options.verb_seconds if stays or migrate_data is None else self._options.move_seconds)
            self._guests.admit(after)
        except DriverError:
            if here is None and not self._pace.stopped.is_set():
                self._state.remove(uuid)
            raise

    def arrive(self, spec: GuestSpec, migrate_data: dict[str, object]) -> None:
        guest = self._guests.guest("arrive", spec.instance.uuid)
        state = travel.guest_in(migrate_data).power_state
        if guest.power_state is PowerState.RUNNING or (guest.power_state is state and guest.sent is None):
            return
        self._pace.take(self._options.verb_seconds)
        after = guest if guest.sent is not None else travel.remarked(guest, "live migrated")
        self._state.change(guest.uuid, power_state=state, boots=after.boots, sent=None)

    def volume_connector(self) -> dict[str, Any]:
        initiator = f"iqn.1994-05.org.polycell:{self._settings.host}"
        return {"initiator": initiator, "multipath": False, "platform": "x86_64", "os_type": "linux"}

    def attach_volume(self, spec: GuestSpec, device: BlockDevice) -> None:
        uuid = spec.instance.uuid
        guest = self._guests.guest("attach_volume", uuid)
        self._pace.take(self._options.verb_seconds)
        attached = {**guest.volumes, **volumes_of((device,))}
        self._state.change(uuid, volumes=attached)

    def detach_volume(self, uuid: str, device: BlockDevice) -> None:
        try:
            guest = self._guests.guest("detach_volume", uuid)
        except GuestNotFound:
            return
        self._pace.take(self._options.verb_seconds)
        left = {name: size for name, size in guest.volumes.items() if name != device.volume_id}
        taken = {key: one for key, one in guest.volume_snapshots.items() if one[0] != device.volume_id}
        self._state.change(uuid, volumes=left, volume_snapshots=taken)

    def disconnect_volume(self, uuid: str, volume_id: str) -> None:
        guest = self._guests.guest("disconnect_volume", uuid)
        if guest.power_state in travel.ALIVE:
            raise DriverError(reason=f"The guest runs: the host stays connected to volume {volume_id}.")

    def swap_volume(self, spec: GuestSpec, old: BlockDevice, new: BlockDevice, check: Callable[[], None]) -> None:
        self._guests.guest("swap_volume", spec.instance.uuid)
        check()
        self.detach_volume(spec.instance.uuid, old)
        self.attach_volume(spec, new)

    def extend_volume(self, uuid: str, device: BlockDevice) -> None:
        guest = self._guests.guest("extend_volume", uuid)
        self._pace.take(self._options.verb_seconds)
        self._state.change(uuid, volumes={**guest.volumes, **volumes_of((device,))})

    def snapshot_volume(self, uuid: str, device: BlockDevice, snapshot_id: str, new_file: str) -> None:
        guest = self._guests.guest("snapshot_volume", uuid)
        if device.volume_id not in guest.volumes:
            raise DriverError(reason=f"The guest does not have the volume {device.volume_id}.")
        self._pace.take(self._options.verb_seconds)
        taken = self._state.get(uuid).volume_snapshots | {snapshot_id: (device.volume_id, new_file)}
        self._state.change(uuid, volume_snapshots=taken)

    def remove_volume_snapshot(
        self, uuid: str, device: BlockDevice, snapshot_id: str, merged: str | None, target: str | None
    ) -> None:
        self._guests.guest("remove_volume_snapshot", uuid)
        self._pace.take(self._options.verb_seconds)
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
            self._guests.run(guest.uuid, "power on")
        else:
            self._guests.halt(guest.uuid, PowerState.CRASHED if does == "crash" else PowerState.SHUTDOWN, does)
        if self._listener is not None:
            self._listener(uuid, self._state.get(uuid).power_state)

    # -- inside --------------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self._guests.state
