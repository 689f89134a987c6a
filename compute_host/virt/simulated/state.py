"""What a simulated host remembers: one small JSON file, replaced whole at each change.

The file survives the death of the agent, not a power failure: there is no fsync, so that thousands of hosts are cheap.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from cell_service import wire
from cell_service.errors import DriverError, GuestNotFound
from cell_service.model.lifecycle import PowerState


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of a guest: when, and how it came about. `remarks`: what it lived through since."""

    at: datetime
    how: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One guest. `made` False: it was begun, and never finished. `sent`: what it did when it was sent to another host
    while it ran; it stands still here. `volumes`: their ids, and their sizes in GiB.
    `shares`: where they come from, by their tags; mounted while it runs."""

    uuid: str
    name: str
    hostname: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    power_state: PowerState
    made: bool = True
    macs: tuple[str, ...] = ()
    image: str = ""
    boots: tuple[Boot, ...] = ()
    notes: tuple[str, ...] = ()
    config_drive: bool = False
    sent: PowerState | None = None
    rescued: bool = False
    volumes: dict[str, int] = field(default_factory=dict)
    shares: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostRecord:
    """All that is in the file."""

    node_uuid: str
    guests: dict[str, Record] = field(default_factory=dict)


class State:
    """Thread-safe. Every change is in the file when the method returns."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "state.json"
        self._lock = threading.Lock()
        self._host = self._loaded()

    @property
    def node_uuid(self) -> str:
        return self._host.node_uuid

    def guests(self) -> list[Record]:
        return list(self._host.guests.values())

    def get(self, uuid: str) -> Record:
        """Raises GuestNotFound."""
        found = self._host.guests.get(uuid)
        if found is None:
            raise GuestNotFound(uuid=uuid)
        return found

    def put(self, record: Record) -> None:
        with self._lock:
            self._write({**self._host.guests, record.uuid: record})

    def remove(self, uuid: str) -> None:
        """No guest: no error."""
        with self._lock:
            if uuid in self._host.guests:
                self._write({key: one for key, one in self._host.guests.items() if key != uuid})

    def change(self, uuid: str, **fields: object) -> Record:
        """Raises GuestNotFound."""
        with self._lock:
            changed = replace(self.get(uuid), **fields)  # type: ignore[arg-type]
            self._write({**self._host.guests, uuid: changed})
            return changed

    def _write(self, guests: dict[str, Record]) -> None:
        host = HostRecord(self._host.node_uuid, guests)
        part = self._path.with_suffix(".part")
        try:
            part.write_text(wire.dumps(host), encoding="utf-8")
            os.replace(part, self._path)
        except OSError as error:
            raise DriverError(reason=f"the host's state cannot be written: {error.strerror}") from error
        self._host = host

    def _loaded(self) -> HostRecord:
        try:
            return wire.loads(HostRecord, self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, wire.Undecodable) as error:
            raise DriverError(reason=f"the host's state cannot be read: {error}") from error
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._host = HostRecord(str(uuid4()))
        self._write({})
        return self._host
