"""The driver of a host with libvirt."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt

from cell_service.context import Clock
from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace, PolycellError
from cell_service.logs import about
from cell_service.model.diagnostics import GuestDiagnostics
from cell_service.model.host import NodeReport
from cell_service.model.instance import Vif
from cell_service.model.lifecycle import PowerState
from compute_host.config import HostSettings
from compute_host.virt.driver import GIB, Guest, GuestSpec, PowerListener, Returned, unheard
from compute_host.virt.libvirt import console, diagnostics, domain, interfaces, node, probe, snapshots, states
from compute_host.virt.libvirt.connection import Connection
from compute_host.virt.libvirt.domain import Laid, LaidDisk
from compute_host.virt.libvirt.gates import Gates
from compute_host.virt.libvirt.storage import Storage
from compute_host.virt.libvirt.watch import Watch

log = logging.getLogger(__name__)

LOOK_SECONDS, ASK_AGAIN_SECONDS = 0.2, 10.0
_ALIVE = (PowerState.RUNNING, PowerState.PAUSED)
PROBE_FILE = "kvm_probe.json"
_GONE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


class LibvirtDriver:
    """See `virt.driver.Driver`. A guest is this host's when its domain's metadata names the host."""

    def __init__(self, settings: HostSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._storage = Storage(settings.state, settings.guests, settings.libvirt.images_type)
        self._watch = Watch(self._power_now, clock)
        uri = settings.libvirt.connection_uri or "qemu:///system"
        self._connection = Connection(uri, self._happened, self._watch.await_return)
        self._gate = Gates().locked
        """Locked while a verb makes or removes a guest: one at a time."""
        self._stopped = threading.Event()
        self._known: tuple[node.Capabilities, bool] | None = None
        self._node_uuid = ""

    # -- the host ------------------------------------------------------------------------------------

    def start(self, listener: PowerListener, returned: Returned = unheard) -> None:
        self._stopped.clear()
        self._node_uuid = node.node_uuid(self._settings.state)
        self._connection.open()
        self._capabilities()
        self._watch.start(listener, returned, self.guests)

    def stop(self) -> None:
        self._stopped.set()
        self._watch.stop()
        self._connection.close()

    def nodes(self) -> tuple[NodeReport, ...]:
        known, kvm = self._capabilities()
        with self._connection.use() as connection:
            host = connection.getInfo()
        return (node.report(self._settings, self._node_uuid, known, host, self._use(), kvm=kvm),)

    def guests(self) -> tuple[Guest, ...]:
        """All guests, those included that have only a directory, begun or lost (NOSTATE)."""
        with self._connection.use() as connection:
            found = {each.UUIDString(): states.of(each) for each in self._ours(connection)}
        for uuid in self._storage.uuids():
            found.setdefault(uuid, PowerState.NOSTATE)
        return tuple(Guest(uuid, state) for uuid, state in sorted(found.items()))

    def power_state(self, uuid: str) -> PowerState:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is not None:
                return states.of(found)
        if self._storage.is_whole(uuid):
            return PowerState.NOSTATE
        raise GuestNotFound(uuid=uuid)

    def console_output(self, uuid: str) -> str:
        return console.tail(self._storage.record(uuid).laid.console)

    def diagnostics(self, uuid: str) -> GuestDiagnostics:
        with self._guest(uuid) as found:
            return diagnostics.of(found, "kvm" if self._capabilities()[1] else "qemu")

    # -- guests --------------------------------------------------------------------------------------

    def spawn(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid):
            if self._is_made(uuid):
                return
            self._make(spec, self._define_and_start)
            self._noted(uuid)

    def destroy(self, uuid: str) -> None:
        with self._gate(uuid):
            self._remove(uuid)
        self._watch.forget(uuid)

    def power_on(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid), self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is None:
                self._define_and_start(spec, self._storage.keep(spec))
            elif not found.isActive():
                found.create()
            self._noted(uuid)

    def power_off(self, uuid: str, *, graceful_seconds: float) -> None:
        with self._watch.hushed(uuid), self._guest(uuid) as found:
            if states.of(found) is PowerState.RUNNING and graceful_seconds > 0:
                self._shut_down(found, graceful_seconds)
            with self._gate(uuid):
                if states.of(found) is PowerState.SUSPENDED:
                    found.managedSaveRemove()
                _pull_the_plug(found)
                self._noted(uuid)

    def reboot(self, spec: GuestSpec, *, hard: bool) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid):
            if not hard:
                if self._rebooted_softly(uuid):
                    return
                log.warning("guest does not shut down, rebooted hard", extra=about(None, instance=uuid))
            self._reboot_hard(spec)

    def pause(self, uuid: str) -> None:
        self._switch("pause", uuid, PowerState.RUNNING, PowerState.PAUSED, lambda found: found.suspend())

    def unpause(self, uuid: str) -> None:
        self._switch("unpause", uuid, PowerState.PAUSED, PowerState.RUNNING, lambda found: found.resume())

    def suspend(self, uuid: str) -> None:
        self._switch("suspend", uuid, PowerState.RUNNING, PowerState.SUSPENDED, lambda found: found.managedSave())

    def resume(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        self._switch("resume", uuid, PowerState.SUSPENDED, PowerState.RUNNING, lambda found: found.create())

    def attach_interface(self, spec: GuestSpec, vif: Vif) -> None:
        with self._gate(spec.instance.uuid), self._guest(spec.instance.uuid) as found:
            for flag in interfaces.without(found, vif.mac):
                found.attachDeviceFlags(domain.interface(spec, vif, self._choices()), flag)

    def detach_interface(self, uuid: str, vif: Vif) -> None:
        with self._gate(uuid), contextlib.suppress(GuestNotFound), self._guest(uuid) as found:
            for flag, text in interfaces.having(found, vif.mac):
                found.detachDeviceFlags(text, flag)

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        if migrate_data is not None:
            raise DriverError(reason="A guest is made here from its image, not from another host's disks.")
        uuid = spec.instance.uuid
        with self._gate(uuid):
            if self._is_active(uuid):
                raise DriverError(reason="A guest of this uuid is running here.")
            if self._storage.is_whole(uuid):
                self._define(spec, self._storage.keep(spec))
                return
            self._make(spec, self._define)

    def snapshot(self, uuid: str, target: Path) -> str:
        state = self.power_state(uuid)
        if state in _ALIVE:
            raise DriverError(reason=f"The guest is {state.name.lower()}: its disk is copied only while it is off.")
        root = self._root(uuid)
        snapshots.copy_file(root.path, root.format, target)
        return snapshots.FORMAT

    def snapshot_running(self, uuid: str, target: Path) -> str:
        with self._guest(uuid) as found:
            if found.isActive():
                snapshots.copy_running(found, self._root(uuid).path, target, self._clock, self._stopped)
                return snapshots.FORMAT
        return self.snapshot(uuid, target)

    def trigger_crash_dump(self, uuid: str) -> None:
        with self._guest(uuid) as found:
            if not found.isActive():
                raise DriverError(reason="The guest does not run: it cannot write a crash dump.")
            found.injectNMI(0)

    def rescue(self, spec: GuestSpec, *, stable: bool) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid), self._gate(uuid), self._guest(uuid) as found:
            if self._storage.record(uuid).rescued is not None:
                _pull_the_plug(found)
            elif (state := states.of(found)) in _ALIVE:
                raise DriverError(reason=f"The guest is {state.name.lower()}: it cannot be rescued.")
            if found.hasManagedSaveImage():
                found.managedSaveRemove()
            laid = self._storage.rescue(spec, stable=stable)
            try:
                self._define_and_start(spec, laid)
            except BaseException:
                self._define(spec, self._storage.unrescue(uuid))
                raise
            self._noted(uuid)

    def unrescue(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._watch.hushed(uuid), self._gate(uuid), self._guest(uuid) as found:
            if self._storage.record(uuid).rescued is not None:
                _pull_the_plug(found)
                self._storage.unrescue(uuid)
            if not found.isActive():  # its definition may have the rescue disk still
                self._define_and_start(spec, self._storage.keep(spec))
            self._noted(uuid)

    # -- inside --------------------------------------------------------------------------------------

    def _make(self, spec: GuestSpec, define: Callable[[GuestSpec, Laid], object]) -> None:
        """Make the guest's files, and its domain from them; after an error nothing is left."""
        self._remove(spec.instance.uuid)
        self._check_space(spec)
        try:
            define(spec, self._storage.make(spec))
        except BaseException:
            self._remove_after_failure(spec.instance.uuid)
            raise

    def _root(self, uuid: str) -> LaidDisk:
        """The guest's root disk. Raises GuestNotFound, DriverError."""
        for disk in self._storage.record(uuid).laid.disks:
            if disk.role == "root":
                return disk
        raise DriverError(reason="The guest has no root disk on this host.")

    def _rebooted_softly(self, uuid: str) -> bool:
        with self._guest(uuid) as found:
            if states.of(found) is not PowerState.RUNNING:
                raise DriverError(reason="The guest does not run, so it cannot reboot by itself.")
            if not self._shut_down(found, self._settings.libvirt.wait_soft_reboot_seconds):
                return False
            with self._gate(uuid):
                if not found.isActive():
                    found.create()
                self._noted(uuid)
            return True

    def _reboot_hard(self, spec: GuestSpec) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid), self._connection.use(uuid) as connection:
            laid = self._storage.keep(spec)
            found = self._find(connection, uuid)
            if found is not None:
                _pull_the_plug(found)
                if found.hasManagedSaveImage():
                    found.managedSaveRemove()
            self._define_and_start(spec, laid)
            self._noted(uuid)

    def _switch(
        self, verb: str, uuid: str, before: PowerState, after: PowerState, act: Callable[[Any], object]
    ) -> None:
        with self._gate(uuid), self._guest(uuid) as found:
            now = states.of(found)
            if now is after:
                return
            if now is not before:
                raise DriverError(reason=f"The guest is {now.name.lower()}: cannot {verb} it.")
            act(found)
            self._noted(uuid)

    def _define_and_start(self, spec: GuestSpec, laid: Laid) -> None:
        with self._connection.use(spec.instance.uuid):
            self._define(spec, laid).create()

    def _define(self, spec: GuestSpec, laid: Laid) -> Any:
        with self._connection.use(spec.instance.uuid) as connection:
            return connection.defineXML(domain.render(spec, laid, self._choices()))

    def _is_made(self, uuid: str) -> bool:
        """Whether the guest is complete: as a spawn has made it, and perhaps changed by its user since."""
        return self._is_active(uuid) and self._storage.is_whole(uuid)

    def _is_active(self, uuid: str) -> bool:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            return found is not None and bool(found.isActive())

    def _remove(self, uuid: str) -> None:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is not None:
                _pull_the_plug(found)
                with contextlib.suppress(GuestNotFound), self._connection.use(uuid):
                    found.undefineFlags(_GONE)
        self._storage.remove(uuid)

    def _remove_after_failure(self, uuid: str) -> None:
        try:
            self._remove(uuid)
        except PolycellError as error:
            log.warning("remains of a failed spawn not removed", extra=about(None, instance=uuid, reason=error))

    def _shut_down(self, found: Any, seconds: float) -> bool:
        """Request the guest's shutdown, repeatedly. Returns whether it shut down within that time."""
        begun, requested = self._clock.monotonic(), -ASK_AGAIN_SECONDS
        while True:
            if not found.isActive():
                return True
            passed = self._clock.monotonic() - begun
            if passed >= seconds:
                return False
            if passed - requested >= ASK_AGAIN_SECONDS:
                requested = passed
                with contextlib.suppress(libvirt.libvirtError):  # it may have just shut down
                    found.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            self._clock.wait(self._stopped, min(LOOK_SECONDS, seconds - passed))
            if self._stopped.is_set():
                raise DriverError(reason="The driver was stopped.")

    def _check_space(self, spec: GuestSpec) -> None:
        """Raises HostOutOfSpace when the guest does not fit."""
        ratios, reserved, use = self._settings.ratios, self._settings.reserved, self._use()
        with self._connection.use() as connection:
            host = connection.getInfo()
        flavor, disk_bytes = spec.instance.flavor, sum(disk.size_bytes for disk in spec.disks)
        disk_gib = shutil.disk_usage(self._settings.state).total / GIB
        for what, wanted, there in (
            ("vCPUs", use.vcpus + flavor.vcpus, (int(host[2]) - reserved.vcpus) * ratios.cpu),
            ("MiB of memory", use.memory_mib + flavor.memory_mib, (int(host[1]) - reserved.memory_mib) * ratios.ram),
            ("GiB of disk", (use.disk_bytes + disk_bytes) / GIB, (disk_gib - reserved.disk_gib) * ratios.disk),
        ):
            if wanted > there:
                raise HostOutOfSpace(reason=f"The host would need {wanted:.1f} {what} and has {there:.1f}.")

    def _use(self) -> node.Use:
        vcpus = memory_kib = running = 0
        with self._connection.use() as connection:
            for each in self._ours(connection):
                with contextlib.suppress(libvirt.libvirtError):  # gone meanwhile
                    state, most_kib, _now_kib, cpus, _time = each.info()
                    vcpus, memory_kib = vcpus + cpus, memory_kib + most_kib
                    running += state == libvirt.VIR_DOMAIN_RUNNING
        return node.Use(vcpus, memory_kib // 1024, self._storage.disk_bytes(), running)

    def _ours(self, connection: Any) -> Iterator[Any]:
        return (each for each in connection.listAllDomains(0) if states.owner(each) == self._settings.host)

    def _find(self, connection: Any, uuid: str) -> Any | None:
        """The guest's domain, if there is one and it is this host's."""
        try:
            found = connection.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        return found if states.owner(found) == self._settings.host else None

    @contextlib.contextmanager
    def _guest(self, uuid: str) -> Iterator[Any]:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is None:
                raise GuestNotFound(uuid=uuid)
            yield found

    def _capabilities(self) -> tuple[node.Capabilities, bool]:
        if self._known is None:
            requested = self._settings.libvirt.virt_type
            with self._connection.use() as connection:
                offered = node.read(connection)
                kvm = requested == "kvm" or (
                    requested == "auto" and offered.offers_kvm and probe.works("kvm", self._settings.state / PROBE_FILE)
                )
                self._known = (node.read(connection, kvm=kvm), kvm)
        return self._known

    def _choices(self) -> domain.Choices:
        options, kvm = self._settings.libvirt, self._capabilities()[1]
        machines = dict(each.split("=", 1) for each in options.hw_machine_type if "=" in each)
        caches = dict(each.split("=", 1) for each in options.disk_cachemodes if "=" in each)
        return domain.Choices(
            host=self._settings.host,
            kvm=kvm,
            name_prefix=options.name_prefix,
            cpu_mode=options.cpu_mode or ("host-model" if kvm else "none"),
            cpu_models=options.cpu_models,
            machine=machines.get("x86_64", "pc"),
            cache=caches.get("file"),
            spare_ports=options.num_pcie_ports or domain.SPARE_PORTS,
            user_networking=options.user_networking,
        )

    def _happened(self, uuid: str, _event: int, _detail: int) -> None:
        if self._storage.path(uuid).exists():
            self._watch.examine(uuid)

    def _noted(self, uuid: str) -> None:
        """Record the guest's state after a verb, so that it is not reported as a change."""
        with contextlib.suppress(PolycellError):
            self._watch.note(uuid, self.power_state(uuid))

    def _power_now(self, uuid: str) -> PowerState:
        with self._gate(uuid):
            return self.power_state(uuid)


def _pull_the_plug(found: Any) -> None:
    """Turn the guest off. Off already: nothing happens."""
    try:
        if found.isActive():
            found.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise
