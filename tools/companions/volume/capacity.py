"""How much all volumes and snapshots have together, and how much they may have."""

from __future__ import annotations

from sqlalchemy import Connection

from tools.companions.volume import store


def fits(tx: Connection, capacity_gib: int, more_gib: int) -> bool:
    """Whether so much more is left; a capacity of 0 has no end. What has failed takes nothing."""
    return not capacity_gib or provisioned(tx) + more_gib <= capacity_gib


def provisioned(tx: Connection) -> int:
    """GiB, by the sizes of volumes and snapshots; their files may take less."""
    found = (*store.search(tx, "volume"), *store.search(tx, "snapshot"))
    return sum(int(one["size"]) for one in found if one["status"] != "error")
