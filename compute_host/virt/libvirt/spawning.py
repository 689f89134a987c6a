"""Guests are made and removed."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable

import libvirt

from cell_service.errors import DriverError, GuestNotFound, HostOutOfSpace, PolycellError
from cell_service.logs import about
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import GIB, GuestSpec
from compute_host.virt.libvirt import console_places, node
from compute_host.virt.libvirt.domain import Laid
from compute_host.virt.libvirt.guests import ALIVE, LibvirtGuests, pull_the_plug

log = logging.getLogger(__name__)

_GONE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
NOTHING = node.Use(0, 0, 0, 0)
FROM = "from"
"""In migrate data: the uuid of the node that the guest is on."""


class SpawnVerbs(LibvirtGuests):
    """See `virt.driver.Driver` and `virt.driver.Resizable`."""

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

    def receive(self, spec: GuestSpec, migrate_data: dict[str, object] | None) -> None:
        uuid = spec.instance.uuid
        with self._gate(uuid):
            if self._is_active(uuid):
                raise DriverError(reason="A guest of this uuid is running here.")
            if migrate_data is not None:
                self._resize(spec, migrate_data)
            elif self._storage.is_whole(uuid):
                self._define(spec, self._storage.keep(spec))
            else:
                self._make(spec, self._define)

    def pack(self, uuid: str) -> dict[str, object]:
        state = self.power_state(uuid)
        if state in (*ALIVE, PowerState.SUSPENDED):
            raise DriverError(reason=f"The guest is {state.name.lower()}: it is resized only while it is off.")
        return {FROM: self._node_uuid}

    def _make(self, spec: GuestSpec, define: Callable[[GuestSpec, Laid], object]) -> None:
        """Make the guest's files, and its domain from them; after an error nothing is left."""
        self._remove(spec.instance.uuid)
        self._check_space(spec)
        try:
            define(spec, self._storage.make(spec))
        except BaseException:
            self._remove_after_failure(spec.instance.uuid)
            raise

    def _resize(self, spec: GuestSpec, migrate_data: dict[str, object]) -> None:
        if migrate_data.get(FROM) != self._node_uuid or not self._storage.is_whole(spec.instance.uuid):
            raise DriverError(reason="A guest is made here from its image, not from another host's disks.")
        self._check_space(spec, self._use_of(spec.instance.uuid))
        record = self._storage.fit(spec)
        self._define(spec, record.laid)
        self._storage.take(spec.instance.uuid, record)  # not before: what the definition names is still there

    def _is_made(self, uuid: str) -> bool:
        """Whether the guest is complete: as a spawn has made it, and perhaps changed by its user since."""
        return self._is_active(uuid) and self._storage.is_whole(uuid)

    def _remove(self, uuid: str) -> None:
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is not None:
                pull_the_plug(found)
                with contextlib.suppress(GuestNotFound), self._connection.use(uuid):
                    found.undefineFlags(_GONE)
        self._volumes.disconnect_all(uuid)
        console_places.remove_sockets(self._settings.consoles, uuid)
        self._storage.remove(uuid)

    def _remove_after_failure(self, uuid: str) -> None:
        try:
            self._remove(uuid)
        except PolycellError as error:
            log.warning("remains of a failed spawn not removed", extra=about(None, instance=uuid, reason=error))

    def _check_space(self, spec: GuestSpec, had: node.Use = NOTHING) -> None:
        """Raises HostOutOfSpace when the guest does not fit in place of what it `had`."""
        ratios, reserved, use = self._settings.ratios, self._settings.reserved, self._use().without(had)
        with self._connection.use() as connection:
            host = connection.getInfo()
        flavor, disk_bytes = spec.instance.flavor, sum(disk.size_bytes for disk in spec.disks)
        disk_gib = shutil.disk_usage(self._settings.state).total / GIB
        for what, wanted, there in (
            ("vCPUs", use.vcpus + flavor.vcpus, (int(host[2]) - reserved.vcpus) * ratios.cpu),
            (
                "MiB of memory",
                use.memory_mib + flavor.memory_mib,
                (node.memory_mib(self._settings, host) - reserved.memory_mib) * ratios.ram,
            ),
            (
                "GiB of disk",
                (use.disk_bytes + disk_bytes) / GIB,
                (disk_gib - reserved.disk_gib) * ratios.disk,
            ),
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

    def _use_of(self, uuid: str) -> node.Use:
        """The resources of one guest that is off. Raises GuestNotFound."""
        disk_bytes = self._storage.record(uuid).disk_bytes
        with self._connection.use(uuid) as connection:
            found = self._find(connection, uuid)
            if found is None:
                return node.Use(0, 0, disk_bytes, 0)
            _state, most_kib, _now_kib, vcpus, _time = found.info()
        return node.Use(vcpus, most_kib // 1024, disk_bytes, 0)
