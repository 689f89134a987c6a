"""Shares on one host: others there that have the same one, a host that is down, a service that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell_service.model.share import ShareStatus
from cell_service.operations.declaration import Operation
from cell_service.operations.deletes import DELETE
from cell_service.operations.power import START, STOP
from cell_service.operations.shares import ATTACH_SHARE, DETACH_SHARE
from compute_host.config import HostSettings, for_host
from tests.suites.one_cell import OneCell
from tests.suites.steps import KillSwitch
from tests.suites.stopped_cases import attaching_share, up
from tests.suites.stopping import HOST, Meanwhile, Place, Storage

DOWN_SECONDS = 700.0
"""So long nobody hears of a host that is down, and an action that waits for it is given up."""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    made = Storage(tmp_path_factory.mktemp("storage"))
    yield made
    made.close()


def place_in(directory: Path, storage: Storage) -> Place:
    """A server that is off and has a share."""
    made = Place(OneCell(directory, None, storage.volumes, storage.shares), storage)
    made.cell.host(HOST)
    attaching_share(made)
    made.run()
    assert status(made) is ShareStatus.INACTIVE
    return made


def status(place: Place) -> ShareStatus | None:
    held = place.share()
    return None if held is None else held.status


def neighbour_of(place: Place) -> Place:
    """Another server of the host, off, for which the same share is to be asked."""
    other = Place(place.cell, place.storage)
    up(other)
    other.act(STOP)
    other.run()
    other.wanted["share"] = place.wanted["share"]
    return other


def attach(place: Place) -> None:
    """Asked again: nothing happens."""
    if place.share() is not None:
        return
    mapping = place.mapping(place.wanted["share"])
    place.act(ATTACH_SHARE, {"share": mapping.uuid}, shares=(mapping,))


def detach(place: Place) -> None:
    held = place.share()
    assert held is not None
    place.act(DETACH_SHARE, {"share": held.uuid}, shares=(replace(held, status=ShareStatus.DETACHING),))


def rules(place: Place) -> list[str]:
    return list(place.storage.rules(place.wanted["share"]).values())


def test_a_share_that_another_server_gets_meanwhile_stays(tmp_path: Path, storage: Storage) -> None:
    number, calls = 0, 1
    while number < calls:
        number += 1
        (tmp_path / str(number)).mkdir()
        place = place_in(tmp_path / str(number), storage)
        other = neighbour_of(place)
        detach(place)
        switch = Meanwhile(number, lambda other=other: attach(other))  # type: ignore[misc]
        place.cell.host(HOST, switch=switch).claim()
        calls = switch.count
        attach(other)
        place.run()
        assert (status(place), status(other), rules(other)) == (None, ShareStatus.INACTIVE, ["active"]), switch.calls
        place.cell.db.dispose()
    assert calls > 3


def test_two_servers_that_leave_at_once_leave_nothing(tmp_path: Path, storage: Storage) -> None:
    place = place_in(tmp_path, storage)
    other = neighbour_of(place)
    attach(other)
    place.run()
    for each in (place, other):
        each.act(DELETE)
    place.run()
    assert rules(place) == []


def test_a_server_that_is_deleted_while_its_host_is_down(tmp_path: Path, storage: Storage) -> None:
    place = place_in(tmp_path, storage)
    place.cell.hosts[HOST].switch.dead = True
    place.cell.hosts[HOST].agent.stop(0)
    place.cell.pass_time(DOWN_SECONDS, step=30)
    place.act(DELETE)
    place.cell.pass_time(DOWN_SECONDS, step=30)
    assert place.cell.instance(place.uuid).deleted_at is not None
    place.cell.host(HOST)
    place.cell.pass_time(30)
    assert rules(place) == []
    assert place.cell.guests_of(place.uuid) == []


@pytest.mark.parametrize("kind", [ATTACH_SHARE, DETACH_SHARE])
def test_a_host_that_is_down_is_not_waited_for_without_end(
    tmp_path: Path, storage: Storage, kind: Operation[Any, Any]
) -> None:
    place = place_in(tmp_path, storage)
    if kind is ATTACH_SHARE:
        detach(place)
        place.run()
        assert place.share() is None
    place.cell.hosts[HOST].switch.dead = True
    place.cell.hosts[HOST].agent.stop(0)
    attach(place) if kind is ATTACH_SHARE else detach(place)
    place.cell.pass_time(DOWN_SECONDS, step=30)
    assert status(place) is ShareStatus.ERROR
    assert place.message() is not None
    place.cell.host(HOST)
    detach(place)
    place.run()
    assert (status(place), rules(place)) == (None, [])


def test_a_service_that_is_away_holds_up_only_what_needs_it(tmp_path: Path, storage: Storage) -> None:
    own = Storage(tmp_path / "own")
    place = place_in(tmp_path, own)
    other = neighbour_of(place)
    own.sharing.drain(2)
    place.act(START)
    place.run()
    assert place.mounts() == {"home": f"127.0.0.1:/{place.wanted['share']}"}
    other.act(DELETE)
    place.act(DELETE)
    place.run()
    assert other.cell.instance(other.uuid).deleted_at is not None
    assert place.cell.instance(place.uuid).deleted_at is None
    assert place.cell.guests_of(place.uuid) == []
    back = Storage(tmp_path / "own")
    place.cell.shares = back.shares
    place.cell.host(HOST, switch=KillSwitch())
    place.cell.pass_time(400, step=20)
    assert place.cell.instance(place.uuid).deleted_at is not None
    assert back.rules(place.wanted["share"]) == {}
    for each in (own, back):
        each.close()


def test_hosts_of_one_machine_have_addresses_of_their_own(tmp_path: Path) -> None:
    made = HostSettings("", tmp_path, tmp_path)
    here = {for_host(made, f"host{number}").share_address for number in range(50)}
    assert len(here) == 50
    assert all(each.startswith("127.") for each in here)
    assert for_host(replace(made, share_address="192.0.2.7"), "host1").share_address == "192.0.2.7"
