"""Volumes that are encrypted: QEMU decrypts them, with a passphrase that is fetched from the key manager each time that
the host connects to one for a guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from cell_service.errors import DriverError, Invalid, PolycellError
from cell_service.model.volume_connection import VolumeConnection
from cell_service.peers.keys import Keys
from compute_host.virt import luks
from compute_host.virt.libvirt import formatting
from compute_host.virt.libvirt.domain.sources import VolumeSource
from compute_host.virt.libvirt.secrets import VolumeSecrets


class Unlocking(Protocol):
    def unlocked(self, uuid: str, volume_id: str, connection: VolumeConnection, source: VolumeSource) -> VolumeSource:
        """The source as QEMU decrypts it; that of a volume that is not encrypted, as it is. Raises DriverError."""

    def forget(self, uuid: str, volume_id: str) -> None:
        """The guest does not have the volume any more. Repeated, or never unlocked: no error. Raises DriverError."""

    def volumes_of(self, uuid: str) -> tuple[str, ...]:
        """The guest's volumes that are unlocked. Raises DriverError."""

    def guests(self) -> frozenset[str]:
        """The guests that have such volumes. Raises DriverError."""


class VolumeLocks:
    """See `Unlocking`. `keys`: None where no key manager is known."""

    def __init__(self, keys: Keys | None, secrets: VolumeSecrets) -> None:
        self._keys, self._secrets = keys, secrets

    def are_possible(self) -> bool:
        """Whether this host can decrypt volumes, while the key manager answers."""
        return self._keys is not None and self._keys.are_reachable and self._secrets.are_supported()

    def unlocked(self, uuid: str, volume_id: str, connection: VolumeConnection, source: VolumeSource) -> VolumeSource:
        if not connection.encrypted:
            return source
        encryption = _encryption(volume_id, connection.encryption)
        passphrase = luks.passphrase_of(self._key(volume_id, encryption.key_id))
        alone = not connection.shared and not connection.read_only
        formatting.prepare(volume_id, source, passphrase, encryption, alone=alone)
        return replace(source, passphrase=self._secrets.keep(uuid, volume_id, passphrase))

    def forget(self, uuid: str, volume_id: str) -> None:
        if self._keys is not None:
            self._secrets.forget(uuid, volume_id)

    def volumes_of(self, uuid: str) -> tuple[str, ...]:
        return () if self._keys is None else self._secrets.volumes_of(uuid)

    def guests(self) -> frozenset[str]:
        return frozenset() if self._keys is None else self._secrets.guests()

    def _key(self, volume_id: str, key_id: str) -> bytes:
        if self._keys is None:
            raise DriverError(reason=f"Volume {volume_id} is encrypted, and this host knows no key manager.")
        try:
            return self._keys.get(key_id)
        except PolycellError as error:
            raise DriverError(reason=f"The key of volume {volume_id} cannot be had: {error}") from error


def _encryption(volume_id: str, said: Mapping[str, Any]) -> luks.Encryption:
    try:
        found = luks.encryption_of(said)
    except Invalid as error:
        raise DriverError(reason=f"Volume {volume_id} cannot be decrypted: {error}.") from error
    if not found.key_id:
        raise DriverError(reason=f"Volume {volume_id} is encrypted, and its service names no key of it.")
    return found
