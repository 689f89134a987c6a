"""Rows of instances that are being moved between two cells: one copy of each, that of the cell which owns it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from mapping_db import instance_mappings
from mapping_db.cloud import Cloud

T = TypeVar("T")

CHUNK = 500


@dataclass(frozen=True, slots=True)
class Copy(Generic[T]):
    """A row that a cell has, about an instance. `hidden`: perhaps another cell has the valid copy."""

    cell_id: int
    identity: str
    instance_uuid: str
    hidden: bool
    row: T


def owned(cloud: Cloud, copies: Iterator[Copy[T]], chunk: int = CHUNK) -> Iterator[T]:
    """The rows in the same order, each once; a hidden one where the mapping points at its cell.

    `chunk`: so many are taken at a time.
    """
    seen: set[str] = set()
    while batch := list(islice(copies, max(chunk, 1))):
        moving = sorted({copy.instance_uuid for copy in batch if copy.hidden})
        owners = {}
        if moving:
            with cloud.db.connect() as tx:
                owners = {uuid: place.cell_id for uuid, place in instance_mappings.places(tx, moving).items()}
        for copy in batch:
            valid = not copy.hidden or owners.get(copy.instance_uuid) == copy.cell_id
            if valid and copy.identity not in seen:
                seen.add(copy.identity)
                yield copy.row
