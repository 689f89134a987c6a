"""Requests to the cells that own instances. When a cell does not have an instance, its mapping is read again, and the
request goes to the cell that it names: written once, in `follow`, for one instance and for many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cell_service.context import Deadline
from cell_service.errors import (
    CellMappingNotFound,
    InstanceNotFound,
    InstanceNotHere,
    InstanceNotReady,
    PolycellError,
)
from mapping_db import instance_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.locations import Location

T = TypeVar("T")
P = TypeVar("P")

MOST_MOVES = 5


def follow(
    places: Mapping[str, P],
    visit: Callable[[Mapping[str, P]], Collection[str]],
    look_up: Callable[[Collection[str]], Mapping[str, P]],
) -> None:
    """Visit each instance where it is.

    `visit` returns those that it did not find there; `look_up` then reads where those are, and each whose place has
    changed is visited there. The others are gone.
    """
    for _ in range(MOST_MOVES):
        lost = visit(places)
        if not lost:
            return
        now = look_up(lost)
        places = {uuid: now[uuid] for uuid in lost if uuid in now and now[uuid] != places[uuid]}
        if not places:
            return


def in_cell(
    cloud: Cloud,
    instance_uuid: str,
    work: Callable[[Cell], T],
    deadline: Deadline,
    unplaced: Callable[[Location], T] | None = None,
) -> T:
    """Run `work` in the cell that owns the instance, or `unplaced` for an instance that is in no cell yet, and return
    the result.

    Either raises InstanceNotHere, having changed nothing, when the instance is not there; then its mapping is followed.
    Raises InstanceNotFound for an instance that is gone, InstanceNotReady without `unplaced`, CellUnavailable,
    DatabaseUnavailable, DeadlineExceeded.
    """
    answers: list[T] = []

    def visit(places: Mapping[str, Location]) -> Collection[str]:
        deadline.check("the cell of the instance")
        location = places[instance_uuid]
        try:
            if location.cell_id is not None:
                answers.append(work(cloud.cells.open(location.cell_id)))
            elif unplaced is None:
                raise InstanceNotReady(instance_uuid=instance_uuid)
            else:
                answers.append(unplaced(location))
        except (InstanceNotHere, CellMappingNotFound):
            return (instance_uuid,)
        return ()

    follow(
        {instance_uuid: cloud.locator.find(instance_uuid)},
        visit,
        lambda _lost: {instance_uuid: cloud.locator.find(instance_uuid, fresh=True)},
    )
    if not answers:
        raise InstanceNotFound(instance_id=instance_uuid)
    return answers[0]


@dataclass(slots=True)
class Owned(Generic[T]):
    """Instances as their owning cells have them. `rows` are by uuid, without those that are gone; `unread` are the
    instances whose cells failed (`failures`); `cells` have answered."""

    rows: dict[str, T] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    failures: dict[int, PolycellError] = field(default_factory=dict)
    cells: set[int] = field(default_factory=set)


def read_owned(
    cloud: Cloud,
    places: Mapping[str, int | None],
    fetch: Callable[[Cell, list[str]], dict[str, T]],
    deadline: Deadline,
    unplaced: Callable[[list[str]], dict[str, T]] | None = None,
) -> Owned[T]:
    """Read instances in the cells that own them, all cells at once. `places` are the cells where they were last known
    to be (None: in no cell yet, which `unplaced` reads; without it they are looked up)."""
    owned: Owned[T] = Owned()

    def visit(at: Mapping[str, int | None]) -> Collection[str]:
        by_cell: dict[int, list[str]] = defaultdict(list)
        waiting = []
        for uuid, cell_id in at.items():
            if cell_id is None:
                waiting.append(uuid)
            else:
                by_cell[cell_id].append(uuid)
        gathered = cloud.cells.scatter(
            by_cell, lambda cell: fetch(cell, by_cell[cell.mapping.id]), deadline, reads=True
        )
        for cell_id, answer in gathered.answers.items():
            owned.cells.add(cell_id)
            owned.rows.update(answer)
        owned.failures.update(gathered.failures)
        owned.unread.extend(uuid for cell_id in gathered.failures for uuid in by_cell[cell_id])
        if waiting and unplaced is not None:
            owned.rows.update(unplaced(waiting))
        return [uuid for uuid, cell_id in at.items() if uuid not in owned.rows and cell_id not in gathered.failures]

    def look_up(uuids: Collection[str]) -> Mapping[str, int | None]:
        with cloud.db.connect() as tx:
            now = instance_mappings.places(tx, uuids)
        return {uuid: place.cell_id for uuid, place in now.items() if place.cell_id is not None}

    if places:
        follow(places, visit, look_up)
    return owned
