"""Actions that are stopped in the middle: at each call that an agent or a conductor makes, before and after it.

Whatever stops them, in the end the action is done or undone, its record says which, and nothing is left over.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Connection

from cell_service.db import services
from cell_service.operations.host_tasks import CLEAN_UP
from tests.real.databases import mariadb_in
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch
from tests.suites.stopped_cases import CASES
from tests.suites.stopping import (
    HOST,
    Case,
    Place,
    Stop,
    Storage,
    agent_dies,
    call_fails,
    check_books,
    check_told,
    fault_after,
    server_is_deleted,
)  # fmt: skip

pytestmark = pytest.mark.timeout(400)

STRIDE = int(os.environ.get("POLYCELL_STRIDE", "5"))
"""1: stopped at each call, which takes ten minutes."""
STRIDES = pytest.mark.parametrize(
    "stride", [pytest.param(STRIDE, marks=pytest.mark.wide, id="many"), pytest.param(40, id="some")]
)
Databases = Callable[[], str]
"""Gives the URL of a new, empty database."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("storage"))
    yield made
    made.close()


def begun(directory: Path, storage: Storage, case: Case, new_database: Databases | None = None) -> Place:
    """The action is open, and no agent is there."""
    directory.mkdir()
    place = Place(
        OneCell(directory, new_database() if new_database else None, storage.volumes, storage.shares), storage
    )
    place.cell.new_conductor(shelved_offload_seconds=-1)
    place.cell.host(HOST)
    case.begin(place)
    place.cell.hosts[HOST].agent.stop(0)
    return place


def at_each_call(
    tmp_path: Path,
    storage: Storage,
    case: Case,
    stop: Stop,
    check: Callable[[Place], None],
    stride: int,
    new_database: Databases | None = None,
) -> None:
    """The action, stopped at its first call, at its second (or one by `stride`), …, until it makes no more;
    checked when all is quiet."""
    wrong: list[str] = []
    for after in (False, True):
        number = 1 - stride + random.randrange(stride)
        while True:
            number += stride
            place = begun(tmp_path / f"{number}{after}", storage, case, new_database)
            switch, fault = fault_after(place, stop, number, check, after=after)
            wrong += [fault] if fault else []
            place.cell.db.dispose()
            if switch.count < number:
                break
    assert not wrong, "\n".join(wrong)


def conductor_dies(place: Place, number: int, after: bool) -> KillSwitch:
    switch = KillSwitch(number, after=after)
    place.cell.new_conductor(switch, shelved_offload_seconds=-1)
    place.cell.host(HOST).claim()
    switch.dead = True
    place.cell.new_conductor(shelved_offload_seconds=-1)
    return switch


def host_is_given_up(place: Place, number: int, after: bool) -> KillSwitch:
    """It dies, an operator says so, and when all is done without it, it is back with the guest that it had."""
    switch = KillSwitch(number, after=after)
    place.cell.host(HOST, switch=switch).claim()
    switch.dead = True
    _force_down(place, True)
    place.cell.pass_time(150, step=30)
    assert {each.kind for each in place.cell.unfinished(place.uuid)} <= {CLEAN_UP.name}
    _force_down(place, False)
    place.cell.host(HOST)
    return switch


def _force_down(place: Place, down: bool) -> None:
    def work(tx: Connection) -> None:
        service = services.by_host(tx, HOST, services.COMPUTE)
        services.change(tx, service.uuid, now=place.cell.clock.now(), forced_down=down)

    place.cell.db.run(work)


@STRIDES
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("stop", [agent_dies, conductor_dies, call_fails], ids=lambda stop: stop.__name__)
def test_a_stopped_action_is_done_or_undone(
    tmp_path: Path, storage: Storage, case: Case, stop: Stop, stride: int
) -> None:
    def check(place: Place) -> None:
        check_books(place)
        check_told(place, case)

    at_each_call(tmp_path, storage, case, stop, check, stride)


@STRIDES
@pytest.mark.parametrize("name", ["attach_volume", "detach_volume", "swap_volume", "extend_volume", "detach_interface"])
def test_what_a_dead_host_had_begun_is_done_or_undone_without_it(
    tmp_path: Path, storage: Storage, name: str, stride: int
) -> None:
    case = next(case for case in CASES if case.name == name)

    def check(place: Place) -> None:
        check_books(place)
        check_told(place, case)

    at_each_call(tmp_path, storage, case, host_is_given_up, check, stride)


@STRIDES
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_delete_overtakes_any_action(tmp_path: Path, storage: Storage, case: Case, stride: int) -> None:
    def check(place: Place) -> None:
        assert place.cell.instance(place.uuid).deleted_at is not None
        check_books(place)

    at_each_call(tmp_path, storage, case, server_is_deleted, check, stride)


@pytest.fixture(scope="module")
def new_database() -> Iterator[Databases]:
    with TemporaryDirectory(prefix="db") as directory:
        server = mariadb_in(Path(directory))
        server.start()
        yield server.create_database
        server.stop()


@pytest.mark.real
@pytest.mark.parametrize("name", ["attach_volume", "rebuild_of_volumes"])
@pytest.mark.parametrize("stop", [agent_dies, conductor_dies], ids=lambda stop: stop.__name__)
def test_also_on_a_database_server(
    tmp_path: Path, storage: Storage, new_database: Databases, name: str, stop: Stop
) -> None:
    case = next(case for case in CASES if case.name == name)

    def check(place: Place) -> None:
        check_books(place)
        check_told(place, case)

    at_each_call(tmp_path, storage, case, stop, check, 7, new_database)
