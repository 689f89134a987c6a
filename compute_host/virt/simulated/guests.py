"""The guests of a simulated host: their records, within the capacity of the host, and how they change."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cell_service.context import Clock
from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings
from compute_host.virt.driver import GuestSpec
from compute_host.virt.simulated import migrations as travel
from compute_host.virt.simulated import node
from compute_host.virt.simulated.pace import Pace
from compute_host.virt.simulated.state import Boot, Record, State

KEPT_BOOTS = 20


class Guests:
    """One host's. Thread-safe. Without a connection every method raises DriverError."""

    def __init__(self, settings: HostSettings, clock: Clock, pace: Pace) -> None:
        self._settings, self._clock, self.pace = settings, clock, pace
        self._options = settings.simulated
        self._lock = threading.Lock()
        self._connected: State | None = None

    def connect(self) -> State:
        """Read the state that the host has stored. A second call changes nothing."""
        with self._lock:
            self._connected = self._connected or State(self._settings.state)
            return self._connected

    def disconnect(self) -> None:
        """Forget the state; it is stored."""
        with self._lock:
            self._connected = None

    def set_maintenance(self, on: bool) -> None:
        """Set whether the host is in maintenance."""
        with self._lock:
            self.state.maintain(on)

    @property
    def state(self) -> State:
        """Raises DriverError while the driver is not connected."""
        state = self._connected
        if state is None:
            raise DriverError(reason="The driver is not connected.")
        return state

    def is_made(self, uuid: str) -> bool:
        """Whether the guest is here, whole."""
        return any(guest.uuid == uuid and guest.made for guest in self.state.guests())

    def make(self, spec: GuestSpec) -> None:
        """Record the guest, not running yet, if there is capacity for it. Raises HostOutOfSpace."""
        self.admit(self.blank(spec))

    def blank(self, spec: GuestSpec) -> Record:
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
            volumes=volumes_of(instance.block_devices),
            shares=_shares(instance),
        )

    def share(self, spec: GuestSpec) -> None:
        """Mount the instance's shares for a guest that starts now."""
        guest, shares = self.state.get(spec.instance.uuid), _shares(spec.instance)
        if guest.shares != shares:
            self.state.change(guest.uuid, shares=shares)

    def admit(self, record: Record) -> None:
        """Store the record, in place of the guest's earlier one, if there is capacity for it. Raises HostOutOfSpace."""
        with self._lock:
            others = [guest for guest in self.state.guests() if guest.uuid != record.uuid]
            if self.state.maintenance and len(others) == len(self.state.guests()):
                raise DriverError(reason="The host is in maintenance: it takes no guests.")
            self._check_space([*others, record])
            self.state.put(record)

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

    def run(self, uuid: str, how: str, *, made: bool | None = None) -> None:
        """Record that the guest has started, and `how`; with `made` whether it is whole."""
        guest = self.state.get(uuid)
        boots, notes = (*guest.boots, Boot(self._clock.now(), how)), guest.notes
        while len(notes) < len(boots) - 1:
            notes = (*notes, "power off")
        if len(boots) > KEPT_BOOTS:
            boots, notes = boots[-KEPT_BOOTS:], notes[-KEPT_BOOTS + 1 :]
        made = guest.made if made is None else made
        self.state.change(uuid, power_state=PowerState.RUNNING, boots=boots, notes=notes, made=made, sent=None)

    def halt(self, uuid: str, state: PowerState, note: str) -> None:
        """Record that the guest has stopped; `note` says how on its console."""
        guest = self.state.get(uuid)
        notes = guest.notes
        if len(notes) < len(guest.boots):
            notes = (*notes, note)
        self.state.change(uuid, power_state=state, notes=notes, sent=None)

    def remark(self, verb: str, uuid: str, remark: str) -> None:
        """Print the remark on the running guest's console."""
        guest = self.guest(verb, uuid)
        if guest.power_state not in travel.RUNS:
            raise DriverError(reason=f"The guest is {guest.power_state.name.lower()}: cannot {verb}.")
        self.pace.take(self._options.verb_seconds)
        self.state.change(uuid, boots=travel.remarked(guest, remark).boots)

    def change_power(self, verb: str, uuid: str, before: PowerState, after: PowerState) -> None:
        """Change the guest's power state from `before`. In `after` already: nothing happens. Raises DriverError."""
        guest = self.guest(verb, uuid)
        if guest.power_state is after:
            return
        if guest.power_state is not before:
            raise DriverError(reason=f"The guest is {guest.power_state.name.lower()}: cannot {verb} it.")
        self.pace.take(self._options.verb_seconds)
        self.state.change(uuid, power_state=after, sent=None)

    def guest(self, verb: str, uuid: str) -> Record:
        """The guest that a verb works on. Raises GuestNotFound, and the configured fault."""
        guest = self.made(uuid)
        self.pace.strike(verb, uuid, guest.name)
        return self.state.get(uuid)

    def made(self, uuid: str) -> Record:
        """The guest, on a host that is not frozen. Raises GuestNotFound."""
        if not self.state.get(uuid).made:
            raise GuestNotFound(uuid=uuid)
        self.demand_thawed()
        return self.state.get(uuid)

    def demand_thawed(self) -> None:
        """While the host is frozen, no verb begins. Raises DriverError when it is off."""
        self.pace.await_thaw()
        self.state.demand_on()


def volumes_of(devices: Iterable[BlockDevice]) -> dict[str, int]:
    """The sizes of the devices' volumes in GiB, by their ids."""
    return {device.volume_id: device.volume_size or 0 for device in devices if device.is_volume and device.volume_id}


def _shares(instance: Instance) -> dict[str, str]:
    return {one.tag: one.export_location for one in instance.shares if one.usable}
