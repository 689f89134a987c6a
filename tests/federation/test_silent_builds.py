"""Builds whose cell falls silent after a host there was chosen for them, or whose hosts are out of reach."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from api_cell.superconductor import placing
from cell_service.db import services
from cell_service.errors import DatabaseUnavailable
from cell_service.rpc.transports import bus
from mapping_db import build_requests
from tests.federation.cloud import Federation

pytestmark = pytest.mark.timeout(600)  # minutes of the clouds' clock pass

HOST = "OS-EXT-SRV-ATTR:host"


@pytest.fixture
def cloud(small: Federation) -> Federation:
    return small


def silence_at(
    monkeypatch: pytest.MonkeyPatch, cloud: Federation, function: str, after: Callable[[str], None]
) -> list[str]:
    """Silence the chosen cell of the first build for which that function of `placing` is called, when the function is
    done. Answers the cell's name, when it is known."""
    original, silenced = getattr(placing, function), []

    def patched(*arguments: Any, **more: Any) -> Any:
        answer = original(*arguments, **more)
        if not silenced:
            with cloud.db.connect() as tx:
                (request,) = build_requests.of_project(tx, None)
            assert isinstance(request, build_requests.ChosenBuildRequest)
            names = {cell_id: name for name, cell_id in cloud.ids.items()}
            silenced.append(names[request.selection.cell_id])
            cloud.silence(silenced[0])
            after(request.instance_uuid)
        return answer

    monkeypatch.setattr(placing, function, patched)
    return silenced


def pass_time(cloud: Federation, seconds: float) -> None:
    end = cloud.clock.now() + timedelta(seconds=seconds)
    cloud.until(lambda: cloud.clock.now() >= end, seconds + 60)


def demand_one_guest(cloud: Federation, uuid: str, host: str) -> None:
    """The server is on that host and on no other, with one claim, and nothing is left to be done."""
    for name in ("cell1", "cell2"):
        cloud.wake(name)
    cloud.until(lambda: not cloud.unfinished())
    assert [name for name, guests in cloud.guests().items() if uuid in guests] == [host]
    assert cloud.allocations()[uuid] == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
    assert cloud.admin.delete(f"/servers/{uuid}").status == 204
    cloud.until(lambda: cloud.gone(uuid))
    assert uuid not in cloud.allocations()


def test_another_host_is_chosen(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    silenced = silence_at(monkeypatch, cloud, "_choose", lambda uuid: None)
    before = cloud.clock.now()
    uuid = cloud.post_server().json["server"]["id"]
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    assert cloud.clock.now() - before >= timedelta(seconds=30)
    host = cloud.show(uuid)[HOST]
    assert silenced
    assert not host.startswith(silenced[0])
    demand_one_guest(cloud, uuid, host)


def test_a_build_that_fits_nowhere_else_waits(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    silenced = silence_at(monkeypatch, cloud, "_choose", lambda uuid: None)
    uuid = cloud.post_server(availability_zone="nova:cell1-host1").json["server"]["id"]
    cloud.until(lambda: silenced)
    pass_time(cloud, 40)
    assert cloud.show(uuid)["status"] == "BUILD"
    cloud.wake("cell1")
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    demand_one_guest(cloud, uuid, "cell1-host1")


def test_a_build_that_the_cell_may_have_waits_for_it(cloud: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell has committed it, and falls silent before the mapping says so: another host would be a second one."""

    def fail(uuid: str) -> None:
        raise DatabaseUnavailable(reason="killed here")

    silenced = silence_at(monkeypatch, cloud, "_store", fail)
    uuid = cloud.post_server().json["server"]["id"]
    cloud.until(lambda: silenced)
    pass_time(cloud, 40)
    assert cloud.show(uuid)["status"] == "BUILD"
    cloud.wake(silenced[0])
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    demand_one_guest(cloud, uuid, f"{silenced[0]}-host1")


def test_a_build_whose_cell_has_it_not_as_it_is_now_is_not_taken_for_one_that_no_cell_has(
    cloud: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is changed when its cell has it, and the cell does not answer when it is to get the change."""
    store, note, attempts, noted = placing._store, placing._note_unreachable, [], []

    def stored(deps: Any, cell: Any, requests: Any, hosts: Any) -> None:
        attempts.append(cell.name)
        if 1 < len(attempts) < 5:
            raise placing.NothingStored(cell=cell.name, reason="It does not answer.")
        store(deps, cell, requests, hosts)
        if len(attempts) == 1:
            client = cloud.user("admin", "admin-project")  # a connection of this thread
            changed = client.put(f"/servers/{requests[0].instance_uuid}", {"server": {"name": "late"}})
            assert changed.status == 200

    def watched_note(deps: Any, requests: Any) -> Any:
        noted.extend(requests)
        return note(deps, requests)

    monkeypatch.setattr(placing, "_store", stored)
    monkeypatch.setattr(placing, "_note_unreachable", watched_note)
    uuid = cloud.post_server().json["server"]["id"]
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    assert len(attempts) == 5
    assert len(set(attempts)) == 1
    assert noted == []
    assert cloud.show(uuid)["name"] == "late"
    demand_one_guest(cloud, uuid, f"{attempts[0]}-host1")


def test_a_build_waits_while_brokers_are_away(cloud: Federation) -> None:
    """Hosts reach their cell through its queue alone: they count as down, and are not."""
    cells = ("cell1", "cell2")
    cloud.until(lambda: all(watched(cloud, name) for name in cells))
    buses = [bus(cloud._queue(name).removeprefix("memory://")) for name in cells]
    for each in buses:
        each.unreachable.set()
    try:
        cloud.until(lambda: {each["state"] for each in compute_services(cloud)} == {"down"})
        uuid = cloud.post_server().json["server"]["id"]
        pass_time(cloud, 10)
        assert cloud.show(uuid)["status"] == "BUILD"
    finally:
        for each in buses:
            each.unreachable.clear()
    cloud.until(lambda: cloud.show(uuid)["status"] == "ACTIVE")
    demand_one_guest(cloud, uuid, cloud.show(uuid)[HOST])


def watched(cloud: Federation, name: str) -> bool:
    """Whether a conductor of the cell watches its hosts."""
    with cloud.cell_database(name).connect() as tx:
        return services.watched_at(tx) is not None


def compute_services(cloud: Federation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.admin.get("/os-services?binary=nova-compute").json["services"]
    return found
