"""Guests that move from one simulated host to another: their migrate data, and the guests made from it."""

from __future__ import annotations

from dataclasses import replace

from cell_service import wire
from cell_service.errors import DriverError
from cell_service.model.lifecycle import PowerState
from compute_host.virt.driver import GuestSpec
from compute_host.virt.simulated.state import Record

RUNS = (PowerState.RUNNING, PowerState.PAUSED)
ALIVE = (*RUNS, PowerState.SUSPENDED)


def migration_data(guest: Record, node_uuid: str) -> dict[str, object]:
    """The migrate data of a guest of this node. A sent guest's has its power state from before it was sent."""
    as_it_was = guest if guest.sent is None else replace(guest, power_state=guest.sent, sent=None)
    return {"from": node_uuid, "guest": wire.to_plain(as_it_was)}


def is_own(migrate_data: dict[str, object], node_uuid: str) -> bool:
    """Whether the migrate data was packed on this node."""
    return migrate_data.get("from") == node_uuid


def guest_in(migrate_data: dict[str, object]) -> Record:
    """The guest in the migrate data. Raises DriverError when they are of another kind of host."""
    try:
        return wire.from_plain(Record, migrate_data["guest"])
    except (KeyError, wire.Undecodable) as error:
        raise DriverError(reason="The migrate data is not a simulated guest's.") from error


def resized(guest: Record, spec: GuestSpec) -> Record:
    """The guest with the size and the ports that `spec` says. A root disk without a size of its own stays as it is."""
    flavor = spec.instance.flavor
    disk_gib = sum(disk.size_gib for disk in spec.disks)
    return replace(
        guest,
        vcpus=flavor.vcpus,
        memory_mib=flavor.memory_mib,
        disk_gib=disk_gib if flavor.root_gib else max(disk_gib, guest.disk_gib),
        macs=tuple(nic.mac for nic in spec.nics),
    )


def unpacked(migrate_data: dict[str, object], spec: GuestSpec) -> Record:
    """The guest of the migrate data as it is on this host before it is started. Raises DriverError."""
    return replace(resized(guest_in(migrate_data), spec), power_state=PowerState.SHUTDOWN, sent=None, made=True)


def remarked(guest: Record, remark: str) -> Record:
    """The guest with another line on its console."""
    if not guest.boots:
        return guest
    *earlier, last = guest.boots
    return replace(guest, boots=(*earlier, replace(last, remarks=(*last.remarks, remark))))
