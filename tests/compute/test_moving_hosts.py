"""A host on its way from one cell to the other, known to both: whoever asks is told of it once."""

from __future__ import annotations

from typing import Any

import pytest

from cell_service.db import host_rows
from mapping_db import host_mappings, host_moves
from mapping_db import schema as top
from tests.compute.test_hosts import MOMENT, run_server
from tests.edge.compute_api import ComputeApi


class Moving:
    """h1 and h3 in cell1, h2 in cell2; h1 on its way to cell2."""

    def __init__(self, api: ComputeApi) -> None:
        self.api = api
        self.source, self.target = api.cell_ids["cell1"], api.cell_ids["cell2"]
        self.service, self.node = api.add_host("cell1", "h1")
        api.add_host("cell1", "h3")
        api.add_host("cell2", "h2")
        with api.db.begin() as tx:
            host_moves.begin(tx, "h1", source=self.source, target=self.target, now=MOMENT)
        rows = api.in_cell("cell1", lambda tx: host_rows.read(tx, "h1"))
        api.in_cell("cell1", lambda tx: host_rows.set_leaving(tx, "h1", True, MOMENT))
        api.in_cell("cell2", lambda tx: host_rows.announce(tx, rows))

    def map(self) -> None:
        with self.api.db.begin() as tx:
            assert host_mappings.move(tx, "h1", source=self.source, target=self.target)

    def arrive(self) -> None:
        self.map()
        self.api.in_cell("cell2", lambda tx: host_rows.set_leaving(tx, "h1", False, MOMENT))

    def end(self) -> None:
        self.arrive()
        self.api.in_cell("cell1", lambda tx: host_rows.remove_empty(tx, "h1", self.api.clock.now()))
        with self.api.db.begin() as tx:
            tx.execute(top.host_moves.delete())

    def get(self, path: str, version: str = "2.53") -> Any:
        reply = self.api.client.get(path, version=version)
        assert reply.status == 200, reply.raw
        return reply.json


@pytest.fixture(params=["announced", "map", "arrive", "end"])
def moving(request: pytest.FixtureRequest, api: ComputeApi) -> Moving:
    made = Moving(api)
    if request.param != "announced":
        getattr(made, request.param)()
    return made


@pytest.mark.parametrize("version", ["2.52", "2.53", "2.69"])
def test_it_is_listed_once(moving: Moving, version: str) -> None:
    assert sorted(each["host"] for each in moving.get("/os-services", version)["services"]) == ["h1", "h2", "h3"]
    for path in ("/os-hypervisors", "/os-hypervisors/detail"):
        named = [each["hypervisor_hostname"] for each in moving.get(path, version)["hypervisors"]]
        assert sorted(named) == ["h1", "h2", "h3"]


def test_its_pages_are_whole(moving: Moving) -> None:
    found, path = [], "/os-hypervisors?limit=1"
    while path:
        page = moving.get(path)
        found += [each["hypervisor_hostname"] for each in page["hypervisors"]]
        links = page.get("hypervisors_links")
        path = links[0]["href"].split("/v2.1", 1)[1] if links else ""
    assert sorted(found) == ["h1", "h2", "h3"]


def test_it_is_counted_once(moving: Moving) -> None:
    assert moving.get("/os-hypervisors/statistics")["hypervisor_statistics"]["count"] == 3


def test_it_is_in_its_zone(moving: Moving) -> None:
    zones = moving.get("/os-availability-zone/detail")["availabilityZoneInfo"]
    assert sorted(next(each for each in zones if each["zoneName"] == "nova")["hosts"]) == ["h1", "h2", "h3"]


def test_it_is_found_and_changed(moving: Moving) -> None:
    assert moving.get(f"/os-hypervisors/{moving.node.uuid}")["hypervisor"]["hypervisor_hostname"] == "h1"
    reply = moving.api.client.put(f"/os-services/{moving.service.uuid}", {"forced_down": True}, version="2.53")
    assert reply.status == 200, reply.raw
    assert [each["forced_down"] for each in moving.get("/os-services?host=h1")["services"]] == [True]


def test_what_is_set_meanwhile_is_set_in_its_new_cell(api: ComputeApi) -> None:
    moving = Moving(api)
    api.client.put(f"/os-services/{moving.service.uuid}", {"forced_down": True}, version="2.53")
    moving.end()
    assert [each["forced_down"] for each in moving.get("/os-services?host=h1")["services"]] == [True]


def test_it_is_not_removed_meanwhile(api: ComputeApi) -> None:
    moving = Moving(api)
    assert api.client.delete(f"/os-services/{moving.service.uuid}", version="2.53").status == 409


def test_its_new_cell_is_silent(api: ComputeApi) -> None:
    moving = Moving(api)
    moving.map()
    api.silence("cell2")
    shown = [(each["host"], each["status"]) for each in moving.get("/os-services", "2.69")["services"]]
    assert sorted(shown) == [("h1", "UNKNOWN"), ("h2", "UNKNOWN"), ("h3", "enabled")]


def test_servers_of_a_host_are_asked_of_its_cell_alone(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    run_server(api, "cell1", "h1")
    api.silence("cell2")
    reply = api.client.get("/servers?host=h1&all_tenants=1", version="2.53")
    assert [each["name"] for each in reply.json["servers"]] == ["one"]
    assert reply.headers.get("X-Polycell-Missing-Cells") is None
    reply = api.client.get("/servers?host=nosuch&all_tenants=1", version="2.53")
    assert reply.headers.get("X-Polycell-Missing-Cells") == "cell2"
