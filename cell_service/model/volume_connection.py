"""How a host reaches a volume, as the block storage service says it of an attachment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class VolumeConnection:
    """`kind`: the type of the connection, `driver_volume_type` in its document. `data`: what that type needs, and what
    all have: access_mode, encrypted, qos_specs, discard; and `encryption` of one that is encrypted."""

    kind: str
    data: Mapping[str, Any]

    @property
    def encrypted(self) -> bool:
        return bool(self.data.get("encrypted"))

    @property
    def encryption(self) -> Mapping[str, Any]:
        """How the volume is encrypted: provider, cipher, key_size, control_location, encryption_key_id."""
        said = self.data.get("encryption")
        return said if isinstance(said, Mapping) else {}

    @property
    def read_only(self) -> bool:
        return self.data.get("access_mode") == "ro"

    @property
    def discards(self) -> bool:
        return self.data.get("discard") is True

    @property
    def shared(self) -> bool:
        """Whether several servers may have the volume at a time."""
        return self.data.get("multiattach") is True

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that the host has to enforce, by Cinder's names."""
        specs = self.data.get("qos_specs")
        return dict(specs) if isinstance(specs, Mapping) else {}


def of_any_host(info: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a `connection_info` that is the volume's: it stays when the attachment says something else."""
    return {name: value for name, value in info.items() if name in ("multiattach", "encryption")}


def unconnected(info: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a `connection_info` that is kept where no host is connected: whether only some can be."""
    return {"encrypted": True} if connection_of(info).encrypted else {}


def connection_of(info: Mapping[str, Any]) -> VolumeConnection:
    """The connection of an attachment's `connection_info`, which is flat: its data and its type on one level
    (Block Storage API, microversion 3.27 and later). The volume's `multiattach` is with it, as Nova has it."""
    data = {name: value for name, value in info.items() if name != "driver_volume_type"}
    return VolumeConnection(str(info.get("driver_volume_type") or ""), data)
