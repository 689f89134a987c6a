"""Where QEMU finds a volume: a path on the host, or a network disk that it connects to by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from cell_service.errors import DriverError
from compute_host.virt.libvirt.domain.xml import add

NBD_PORT, CEPH_PORT = 10809, 6789
BY_QEMU = frozenset({"nbd", "rbd"})
"""The connection types that need nothing of the host."""


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """`kind`: file, block or network. `hosts`: attributes of each host of a network disk. `secret`: the user's name,
    and type and uuid of a secret of libvirt. `format`: raw, or that of a file. `passphrase`: the uuid of a secret of
    libvirt by which QEMU decrypts LUKS; empty where nothing is encrypted."""

    kind: str
    attributes: Mapping[str, str]
    hosts: tuple[Mapping[str, str], ...] = ()
    reconnect_seconds: int = 0
    secret: tuple[str, str, str] | None = None
    format: str = "raw"
    passphrase: str = ""


def network(kind: str, data: Mapping[str, Any], reconnect_seconds: int) -> VolumeSource:
    """The network disk of a connection of one of the types `BY_QEMU`. `reconnect_seconds`: how long requests of the
    guest wait for an NBD server that went away, before they fail. Raises DriverError."""
    try:
        return _nbd(data, reconnect_seconds) if kind == "nbd" else _rbd(data)
    except KeyError as error:
        raise DriverError(reason=f"The connection to the volume has no {error.args[0]}.") from error


def path(name: str, *, block: bool, kind: str = "raw") -> VolumeSource:
    """A block device or a file of the host."""
    return VolumeSource("block", {"dev": name}) if block else VolumeSource("file", {"file": name}, format=kind)


def add_source(disk: Element, source: VolumeSource) -> None:
    made = add(disk, "source", **source.attributes)
    for host in source.hosts:
        add(made, "host", **host)
    if source.secret is not None:
        user, kind, uuid = source.secret
        add(add(made, "auth", username=user), "secret", type=kind, uuid=uuid)
    if source.passphrase:
        add(add(made, "encryption", format="luks"), "secret", type="passphrase", uuid=source.passphrase)
    if source.reconnect_seconds:
        add(made, "reconnect", delay=str(source.reconnect_seconds))


def _nbd(data: Mapping[str, Any], reconnect_seconds: int) -> VolumeSource:
    if data.get("socket"):
        host = {"transport": "unix", "socket": str(data["socket"])}
    else:
        host = {"name": str(data["host"]), "port": str(data.get("port") or NBD_PORT)}
    attributes = {"protocol": "nbd", "name": str(data["export"])}
    return VolumeSource("network", attributes, (host,), reconnect_seconds)


def _rbd(data: Mapping[str, Any]) -> VolumeSource:
    ports = [*(data.get("ports") or ()), *([CEPH_PORT] * len(data["hosts"]))]
    hosts = tuple({"name": str(name), "port": str(port)} for name, port in zip(data["hosts"], ports, strict=False))
    secret = None
    if data.get("auth_enabled"):
        secret = (str(data["auth_username"]), str(data.get("secret_type") or "ceph"), str(data["secret_uuid"]))
    return VolumeSource("network", {"protocol": "rbd", "name": str(data["name"])}, hosts, secret=secret)
