"""Where an instance lives, as a value and as the few bytes that caches store."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

_HEAD = struct.Struct(">Ii")
_GENERATION = 1
"""Part of every key: grows when the bytes change their meaning, so that old entries are never misread."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instance lives. `cell_id` None: accepted, in no cell yet. `epoch` grows with each change."""

    instance_uuid: str
    cell_id: int | None
    epoch: int
    project_id: str


def key(instance_uuid: str) -> str:
    return f"pc-map{_GENERATION}:{instance_uuid}"


def pack(location: Location) -> bytes:
    """Epoch, cell, project. Only for instances that are in a cell."""
    assert location.cell_id is not None
    return _HEAD.pack(location.epoch, location.cell_id) + location.project_id.encode()


def unpack(instance_uuid: str, packed: bytes) -> Location | None:
    """The location; None for bytes that `pack` has not made."""
    try:
        epoch, cell_id = _HEAD.unpack_from(packed)
        return Location(instance_uuid, cell_id, epoch, sys.intern(packed[_HEAD.size :].decode()))
    except (struct.error, UnicodeDecodeError):
        return None


def epoch_of(packed: bytes) -> int:
    """The epoch in packed bytes; -1 for bytes that `pack` has not made."""
    return int(_HEAD.unpack_from(packed)[0]) if len(packed) >= _HEAD.size else -1
