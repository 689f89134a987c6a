"""The passphrases of encrypted volumes, as secrets of libvirt: in its memory alone, and not to be read from it."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from compute_host.virt.libvirt.connection import Connection
from compute_host.virt.libvirt.domain.xml import add

_WITHOUT = frozenset({libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_SYSTEM_ERROR})


class VolumeSecrets:
    """One secret for each volume of each guest of this host. All verbs may be repeated, and raise DriverError."""

    def __init__(self, connection: Connection, host: str) -> None:
        self._connection, self._prefix = connection, f"polycell {host} "

    def keep(self, uuid: str, volume_id: str, passphrase: str) -> str:
        """Define the guest's secret. Returns its uuid, which is always the same. A libvirtd that starts has none, so it
        is defined before each start of the guest."""
        usage = self._usage(uuid, volume_id)
        with self._connection.use(uuid) as connection:
            made = connection.secretDefineXML(_xml(_uuid(usage), usage))
            made.setValue(passphrase.encode())
        return _uuid(usage)

    def forget(self, uuid: str, volume_id: str) -> None:
        """Undefine it. Not there: no error."""
        with self._connection.use(uuid) as connection:
            try:
                connection.secretLookupByUUIDString(_uuid(self._usage(uuid, volume_id))).undefine()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET and not _has_none(connection, error):
                    raise

    def are_supported(self) -> bool:
        """Whether this libvirt has secrets. Raises DriverError when it does not answer."""
        with self._connection.use() as connection:
            try:
                connection.numOfSecrets()
            except libvirt.libvirtError as error:
                if _has_none(connection, error):
                    return False
                raise
        return True

    def volumes_of(self, uuid: str) -> tuple[str, ...]:
        """The volumes of the guest that have secrets."""
        return tuple(volume_id for guest, volume_id in self._all() if guest == uuid)

    def guests(self) -> frozenset[str]:
        """The guests that have secrets."""
        return frozenset(guest for guest, _volume_id in self._all())

    def _all(self) -> list[tuple[str, str]]:
        with self._connection.use() as connection:
            try:
                names = [str(each.usageID()) for each in connection.listAllSecrets(0)]
            except libvirt.libvirtError as error:
                if not _has_none(connection, error):
                    raise
                return []
        found = [name.removeprefix(self._prefix).split(" ") for name in names if name.startswith(self._prefix)]
        return [(words[0], words[1]) for words in found if len(words) == 2]

    def _usage(self, uuid: str, volume_id: str) -> str:
        return f"{self._prefix}{uuid} {volume_id}"


def _has_none(connection: Any, error: libvirt.libvirtError) -> bool:
    """Whether the error says that this libvirt has no secrets: their daemon may not be installed."""
    return error.get_error_code() in _WITHOUT and bool(connection.isAlive())


def _uuid(usage: str) -> str:
    return str(uuid5(NAMESPACE_URL, usage))


def _xml(uuid: str, usage: str) -> str:
    made = Element("secret", ephemeral="yes", private="yes")
    add(made, "uuid", uuid)
    add(add(made, "usage", type="volume"), "volume", usage)
    return ElementTree.tostring(made, encoding="unicode")
