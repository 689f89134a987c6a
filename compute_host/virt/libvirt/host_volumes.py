"""The volumes that a host is connected to, for its guests.

What the host itself connected is in a file for each guest: written before, removed after it is disconnected. So what an
agent that was killed has left is found again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from cell_service.errors import DriverError
from cell_service.model.block_device import BlockDevice, volumes
from cell_service.model.volume_connection import VolumeConnection, connection_of
from compute_host.virt.libvirt import brick, formatting
from compute_host.virt.libvirt.brick import Connector, device_path
from compute_host.virt.libvirt.domain import sources
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.gates import Gates
from compute_host.virt.libvirt.unlocking import Unlocking

Made = dict[str, dict[str, Any]]
"""By volume: the `kind` and `data` of its connection, and the `device` that its connector returned, if it did."""


class Connectors(Protocol):
    def connector(self, kind: str) -> Connector: ...


class HostVolumes:
    """Thread-safe; one verb at a time for each guest."""

    def __init__(self, directory: Path, connectors: Connectors, reconnect_seconds: int, locks: Unlocking) -> None:
        self._directory, self._connectors, self._reconnect_seconds = directory, connectors, reconnect_seconds
        self._locks = locks
        self._gate = Gates().locked
        """Locked while a volume is connected or disconnected: storage that hangs holds no other volume up."""

    def connect(self, uuid: str, device: BlockDevice) -> VolumeSource:
        """Connect the host to the guest's volume; connected already, again. QEMU can decrypt one that is encrypted.
        Raises DriverError."""
        connection, volume_id = connection_of(device.connection_info), device.volume_id or ""
        with self._gate(volume_id):
            source = self._reached(uuid, volume_id, connection)
            return self._locks.unlocked(uuid, volume_id, connection, source)

    def _reached(self, uuid: str, volume_id: str, connection: VolumeConnection) -> VolumeSource:
        if connection.kind in sources.BY_QEMU:
            return sources.network(connection.kind, connection.data, self._reconnect_seconds)
        if connection.kind not in brick.KINDS:
            raise DriverError(reason=f"Volume {volume_id} is of type {connection.kind or 'none'}, which is not known.")
        data = dict(connection.data)
        connector = self._connectors.connector(connection.kind)
        known = self._read(uuid)
        before = known.get(volume_id, {}).get("device")
        self._write(uuid, {**known, volume_id: {"kind": connection.kind, "data": data, "device": before}})
        made = _called(lambda: connector.connect_volume(dict(data)))
        path = device_path(made)
        kept = {name: value for name, value in made.items() if isinstance(value, (str, int, list))}
        entry = {"kind": connection.kind, "data": data, "device": {**kept, "path": path}}
        self._write(uuid, {**known, volume_id: entry})
        return sources.path(path, block=_is_block(path), kind=str(data.get("format") or "raw"))

    def known(self, uuid: str, device: BlockDevice) -> VolumeSource | None:
        """Where QEMU finds a volume that the host is connected to, also while it cannot be reached; None: the host has
        never been connected to it. Raises DriverError."""
        connection = connection_of(device.connection_info)
        if connection.kind in sources.BY_QEMU:
            return sources.network(connection.kind, connection.data, self._reconnect_seconds)
        made = self._read(uuid).get(device.volume_id or "", {})
        if not made.get("device"):
            return None
        path = str(made["device"]["path"])
        return sources.path(path, block=not Path(path).is_file(), kind=str(made["data"].get("format") or "raw"))

    def connect_all(self, uuid: str, devices: Iterable[BlockDevice]) -> dict[str, VolumeSource]:
        """Connect the host to the volumes among the devices, which are all that the guest has. Returns their sources,
        by their ids. Raises DriverError."""
        made = {
            device.volume_id: self.connect(uuid, device) for device in volumes(devices) if device.volume_id is not None
        }
        for volume_id in self._locks.volumes_of(uuid):
            if volume_id not in made:
                self._locks.forget(uuid, volume_id)
        return made

    def extend(self, uuid: str, volume_id: str) -> None:
        """Have the host see the volume's new size. Raises DriverError."""
        with self._gate(volume_id):
            known = self._read(uuid).get(volume_id)
            if known is not None:
                connector = self._connectors.connector(known["kind"])
                _called(lambda: connector.extend_volume(dict(known["data"])))

    def header_bytes(self, uuid: str, device: BlockDevice) -> int:
        """How much of a volume that is connected the guest does not see: the header of one that is encrypted. Raises
        DriverError."""
        connection = connection_of(device.connection_info)
        if not connection.encrypted:
            return 0
        if connection.kind in sources.BY_QEMU:
            return formatting.header_bytes(sources.network(connection.kind, connection.data, self._reconnect_seconds))
        path = device_path(self._read(uuid).get(device.volume_id or "", {}).get("device") or {})
        return formatting.header_bytes(sources.path(path, block=_is_block(path)))

    def disconnect(self, uuid: str, volume_id: str) -> None:
        """Disconnect the host from a volume that the guest has no more. Not connected: no error. Raises DriverError."""
        with self._gate(volume_id):
            self._locks.forget(uuid, volume_id)
            known = self._read(uuid)
            if volume_id not in known:
                return
            if not any(volume_id in self._read(other) for other in self._recorded() if other != uuid):
                made = known[volume_id]
                connector = self._connectors.connector(made["kind"])
                _called(lambda: connector.disconnect_volume(dict(made["data"]), made["device"], force=True))
            self._write(uuid, {key: one for key, one in known.items() if key != volume_id})

    def disconnect_all(self, uuid: str) -> None:
        """As `disconnect`, all volumes of the guest."""
        for volume_id in {*self._read(uuid), *self._locks.volumes_of(uuid)}:
            self.disconnect(uuid, volume_id)

    def guests(self) -> tuple[str, ...]:
        """The guests for which the host has connected volumes, or keeps their passphrases."""
        return tuple(sorted({*self._recorded(), *self._locks.guests()}))

    def _recorded(self) -> list[str]:
        try:
            return [each.stem for each in self._directory.glob("*.json")]
        except FileNotFoundError:
            return []

    def _read(self, uuid: str) -> Made:
        try:
            read: Made = json.loads((self._directory / f"{uuid}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return read

    def _write(self, uuid: str, known: Made) -> None:
        """Only root may read it: it may have the passwords of storage. Raises DriverError."""
        path, part = self._directory / f"{uuid}.json", self._directory / f"{uuid}.part"
        try:
            if not known:
                path.unlink(missing_ok=True)
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(known, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise DriverError(reason=f"The host's volumes cannot be recorded: {error}") from error


def _called(call: Callable[[], Any]) -> Any:
    """Errors of a connector, and of the programs that it runs, are DriverErrors."""
    try:
        return call()
    except DriverError:
        raise
    except Exception as error:
        raise DriverError(reason=f"The host cannot reach the volume: {error}") from error


def _is_block(path: str) -> bool:
    """Raises DriverError when there is nothing of that name."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError as error:
        raise DriverError(reason=f"The volume is not at {path}: {error.strerror}") from error
