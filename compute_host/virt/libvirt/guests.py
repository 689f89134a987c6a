"""The guests of one host with libvirt: their domains and files, and the one verb at a time that changes each."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import libvirt

from cell_service.context import Clock
from cell_service.errors import DriverError, GuestNotFound, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from cell_service.peers.keys import Keys
from compute_host.config import HostSettings
from compute_host.virt.driver import Guest, GuestSpec
from compute_host.virt.libvirt import console, console_places, domain, node, probe, states
from compute_host.virt.libvirt.brick import VOLUMES, Brick
from compute_host.virt.libvirt.connection import Connection
from compute_host.virt.libvirt.domain import Laid
from compute_host.virt.libvirt.gates import Gates
from compute_host.virt.libvirt.host_volumes import HostVolumes
from compute_host.virt.libvirt.removals import Removals
from compute_host.virt.libvirt.secrets import VolumeSecrets
from compute_host.virt.libvirt.storage import Storage
from compute_host.virt.libvirt.unlocking import VolumeLocks
from compute_host.virt.libvirt.watch import Watch

log = logging.getLogger(__name__)

PROBE_FILE = "kvm_probe.json"
ALIVE = (PowerState.RUNNING, PowerState.PAUSED)


class LibvirtGuests:
    """The base of the driver's verbs. A guest is this host's when its domain's metadata names the host."""

    def __init__(self, settings: HostSettings, clock: Clock, keys: Keys | None = None) -> None:
        """`keys`: of encrypted volumes; None where no key manager is known."""
        self._settings, self._clock = settings, clock
        self._storage = Storage(settings)
        self._watch = Watch(self._power_now, self._bound_console_logs, clock)
        uri = settings.libvirt.connection_uri or "qemu:///system"
        self._choosing_ports = console_places.choosing_ports(uri)
        self._removals = Removals()
        self._connection = Connection(uri, self._happened, self._removals.report, self._watch.await_return)
        self._brick = Brick(settings.libvirt, settings.state / VOLUMES)
        self._locks = VolumeLocks(keys, VolumeSecrets(self._connection, settings.host))
        self._volumes = HostVolumes(
            settings.state / VOLUMES, self._brick, settings.libvirt.nbd_reconnect_seconds, self._locks
        )
        self._gate = Gates().locked
        """Locked while a verb makes or removes a guest: one at a time."""
        self._stopped = threading.Event()
        self._known: tuple[node.Capabilities, bool] | None = None
        self._node_uuid = ""
        self._limits: tuple[str, ...] | None = None
        node.check_memory(settings)

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

    # -- for the verbs -------------------------------------------------------------------------------

    def _define_and_start(self, spec: GuestSpec, laid: Laid, previous: str | None = None) -> None:
        with self._connection.use(spec.instance.uuid):
            self._define(spec, laid, previous).create()

    def _define(self, spec: GuestSpec, laid: Laid, previous: str | None = None) -> Any:
        """Define the domain, with the volumes that the instance has; the host is connected to them. `previous`: the
        definition whose devices keep their names and addresses, unless it is the present one. Empty: none keeps them.
        Raises DriverError, libvirtError."""
        uuid = spec.instance.uuid
        sources = self._volumes.connect_all(uuid, spec.instance.block_devices)
        with self._connection.use(uuid) as connection, self._choosing_ports:
            if previous is None and (found := self._find(connection, uuid)) is not None:
                previous = found.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            consoles = self._consoles(connection, uuid)
            text = domain.render(
                spec, laid, self._choices(), sources=sources, previous=previous or None, consoles=consoles
            )
            return connection.defineXML(text)

    def _is_active(self, uuid: str) -> bool:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            return found is not None and bool(found.isActive())

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

    def _consoles(self, connection: Any, uuid: str) -> domain.Consoles:
        settings = self._settings.consoles
        chooses = settings.serial.enabled and not settings.serial.proxyclient_address.startswith("/")
        taken = set(console_places.serial_ports(connection.listAllDomains(0), but=uuid)) if chooses else set()
        return console_places.of_guest(settings, uuid, taken, spice=self._capabilities()[0].spice)

    def _choices(self) -> domain.Choices:
        options, (known, kvm) = self._settings.libvirt, self._capabilities()
        machines = dict(each.split("=", 1) for each in options.hw_machine_type if "=" in each)
        caches = dict(each.split("=", 1) for each in options.disk_cachemodes if "=" in each)
        preallocated = self._settings.guests.preallocate_images == "space"
        return domain.Choices(
            host=self._settings.host,
            kvm=kvm,
            name_prefix=options.name_prefix,
            cpu_mode=options.cpu_mode or ("host-model" if kvm else "none"),
            cpu_models=options.cpu_models,
            machine=machines.get("x86_64", "pc"),
            cache=caches.get("file"),
            volume_caches=caches,
            spare_ports=options.num_pcie_ports or domain.SPARE_PORTS,
            user_networking=options.user_networking,
            cpu_flags=options.cpu_model_extra_flags,
            discard=options.hw_disk_discard,
            io="native" if preallocated and caches.get("file") in ("none", "directsync") else None,
            secure_boot=known.secure_boot,
            sev=known.sev,
            rng_source=options.rng_dev_path,
            memory_stats_seconds=options.mem_stats_period_seconds,
            file_backed_memory=bool(options.file_backed_memory),
        )

    def _noted(self, uuid: str) -> None:
        """Record the guest's state after a verb, so that it is not reported as a change."""
        with contextlib.suppress(PolycellError):
            self._watch.note(uuid, self.power_state(uuid))

    # -- reports -------------------------------------------------------------------------------------

    def _happened(self, uuid: str, _event: int, _detail: int) -> None:
        if self._storage.path(uuid).exists():
            self._watch.examine(uuid)

    def _bound_console_logs(self) -> None:
        for uuid in self._storage.uuids():
            try:
                console.bound(self._storage.record(uuid).laid.console)
            except GuestNotFound:
                continue
            except DriverError as error:
                log.warning("console log not bounded", extra=about(None, instance=uuid, reason=error))

    def _power_now(self, uuid: str) -> PowerState:
        with self._gate(uuid):
            return self.power_state(uuid)


def pull_the_plug(found: Any) -> None:
    """Turn the guest off. Off already: nothing happens."""
    try:
        if found.isActive():
            found.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise
