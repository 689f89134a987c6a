"""The memory of a simulated host: one small JSON file, replaced whole at each change.

The file survives the death of the agent, not a power failure: there is no fsync, so that thousands of hosts are cheap.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

from cell_service import wire
from cell_service.errors import DriverError, GuestNotFound
from cell_service.model.lifecycle import PowerState


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of a guest: when, and by what. `remarks`: what happened to it since."""

    at: datetime
    how: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One guest. `made` False: it was begun, and never finished. `sent`: its power state when it was sent to another
    host while it ran; it is stopped here. `volumes`: their ids, and their sizes in GiB.
    `shares`: their export locations, by their tags; mounted while it runs."""

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
    volume_snapshots: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Snapshot → its volume, and the file that the guest writes to since."""
    shares: dict[str, str] = field(default_factory=dict)


class HostPower(StrEnum):
    ON = "on"
    OFF = "off"
    STARTING = "starting"


@dataclass(frozen=True, slots=True)
class HostRecord:
    """The content of the file."""

    node_uuid: str
    guests: dict[str, Record] = field(default_factory=dict)
    power: HostPower = HostPower.ON
    maintenance: bool = False


class State:
    """Thread-safe. Every change is in the file when the method returns.

    While a host is not on, its guests do not change: `put` and `change` raise DriverError.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "state.json"
        self._lock = threading.Lock()
        self._host = self._loaded()

    @property
    def node_uuid(self) -> str:
        return self._host.node_uuid

    @property
    def power(self) -> HostPower:
        return self._host.power

    @property
    def maintenance(self) -> bool:
        return self._host.maintenance

    def maintain(self, on: bool) -> None:
        """Set whether the host is in maintenance."""
        with self._lock:
            self._keep(replace(self._host, maintenance=on))

    def demand_on(self) -> None:
        """Raises DriverError while the host is off, or starting."""
        if self._host.power is not HostPower.ON:
            raise DriverError(reason=f"The host is {self._host.power.value}.")

    def switch(self, power: HostPower, *, source: HostPower) -> bool:
        """Set the host's power and turn its guests off, if its power is `source`; False when it is not."""
        with self._lock:
            if self._host.power is not source:
                return False
            guests = {uuid: _unpowered(guest) for uuid, guest in self._host.guests.items()}
            self._keep(replace(self._host, guests=guests, power=power))
            return True

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
            self.demand_on()
            self._write({**self._host.guests, record.uuid: record})

    def remove(self, uuid: str) -> None:
        """No guest: no error."""
        with self._lock:
            if uuid in self._host.guests:
                self._write({key: one for key, one in self._host.guests.items() if key != uuid})

    def change(self, uuid: str, **fields: object) -> Record:
        """Raises GuestNotFound."""
        with self._lock:
            self.demand_on()
            changed = replace(self.get(uuid), **fields)  # type: ignore[arg-type]
            self._write({**self._host.guests, uuid: changed})
            return changed

    def _write(self, guests: dict[str, Record]) -> None:
        self._keep(replace(self._host, guests=guests))

    def _keep(self, host: HostRecord) -> None:
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


def _unpowered(guest: Record) -> Record:
    """The guest after its host went off: it is off, unless it was suspended to disk."""
    if guest.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
        return guest
    notes = guest.notes if len(guest.notes) >= len(guest.boots) else (*guest.notes, "power off")
    return replace(guest, power_state=PowerState.SHUTDOWN, notes=notes, sent=None)
