"""Services, hypervisors, zones and aggregates over two cells, also when one of them is silent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from cell_service.db import instances
from cell_service.model.instance import Flavor, Instance
from mapping_db.placement import providers, traits
from tests.edge.compute_api import ComputeApi

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def run_server(api: ComputeApi, cell: str, host: str, uuid: str = "5f2d3f6c-0000-4000-8000-000000000001") -> None:
    flavor = Flavor("1", "small", 1, 512, 1)
    server = Instance(uuid, "p", "u", "one", flavor, MOMENT, host=host, node=host)

    def work(tx: Connection) -> None:
        instances.insert_new(tx, server)

    api.in_cell(cell, work)


def services(api: ComputeApi, version: str = "2.53", query: str = "") -> dict[str, Any]:
    return {s["host"]: s for s in api.client.get(f"/os-services{query}", version=version).json["services"]}


def test_a_service_is_down_when_its_heartbeats_stay_away(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    assert services(api)["h1"]["state"] == "up"
    api.clock.advance(61)
    assert services(api)["h1"]["state"] == "down"
    assert api.client.get("/os-hypervisors", version="2.53").json["hypervisors"][0]["state"] == "down"


def test_filters(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    api.add_host("cell2", "h2")

    assert set(services(api, query="?host=h2")) == {"h2"}
    assert services(api, query="?binary=nova-scheduler") == {}


def test_disabling_tells_placement_and_enabling_takes_it_back(api: ComputeApi) -> None:
    service, node = api.add_host("cell1", "h1")
    with api.db.begin() as tx:
        provider = providers.add(tx, node.uuid, "h1", MOMENT)

    def mark() -> list[str]:
        with api.db.connect() as tx:
            return traits.of_provider(tx, provider.id)

    body = {"status": "disabled", "disabled_reason": "fan"}
    changed = api.client.put(f"/os-services/{service.uuid}", body, version="2.53").json["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("disabled", "fan")
    assert mark() == ["COMPUTE_STATUS_DISABLED"]
    changed = api.client.put(f"/os-services/{service.uuid}", {"status": "enabled"}, version="2.53").json["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("enabled", None)
    assert mark() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"disabled_reason": "x"}, 400),
        ({"status": "enabled", "disabled_reason": "x"}, 400),
        ({"status": "asleep"}, 400),
        ({"host": "h1"}, 400),
        ({"forced_down": "on"}, 200),
    ],
)
def test_what_an_update_may_say(api: ComputeApi, body: dict[str, Any], status: int) -> None:
    service, _ = api.add_host("cell1", "h1")
    assert api.client.put(f"/os-services/{service.uuid}", body, version="2.53").status == status


def test_forced_down_is_down(api: ComputeApi) -> None:
    service, _ = api.add_host("cell1", "h1")
    api.client.put(f"/os-services/{service.uuid}", {"forced_down": True}, version="2.53")
    assert (services(api)["h1"]["state"], services(api)["h1"]["forced_down"]) == ("down", True)


def test_unknown_services(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    missing = "00000000-0000-4000-8000-000000000000"
    assert api.client.put(f"/os-services/{missing}", {"status": "enabled"}, version="2.53").status == 404
    assert api.client.put("/os-services/1", {"status": "enabled"}, version="2.53").status == 400
    assert api.client.delete(f"/os-services/{missing}", version="2.53").status == 404
    assert api.client.delete("/os-services/77").status == 404
    body = {"host": "nowhere", "binary": "nova-compute"}
    assert api.client.put("/os-services/disable", body).status == 404
    assert api.client.put("/os-services/dance", body).status == 404


def test_a_number_that_two_cells_use_is_no_answer(api: ComputeApi) -> None:
    first, _ = api.add_host("cell1", "h1")
    second, _ = api.add_host("cell2", "h2")
    assert first.id == second.id
    assert api.client.delete(f"/os-services/{first.id}").fault[0] == "badRequest"


def test_deleting_a_service_forgets_its_host(api: ComputeApi) -> None:
    service, node = api.add_host("cell1", "h1")
    with api.db.begin() as tx:
        providers.add(tx, node.uuid, "h1", MOMENT)
    group = api.client.post("/os-aggregates", {"aggregate": {"name": "a"}}).json["aggregate"]
    api.client.post(f"/os-aggregates/{group['id']}/action", {"add_host": {"host": "h1"}})
    run_server(api, "cell1", "h1")

    assert api.client.delete(f"/os-services/{service.uuid}", version="2.53").fault[0] == "conflictingRequest"
    api.in_cell("cell1", lambda tx: instances.mark_deleted(tx, "5f2d3f6c-0000-4000-8000-000000000001", MOMENT))
    assert api.client.delete(f"/os-services/{service.uuid}", version="2.53").status == 204

    assert services(api) == {}
    assert api.client.get("/os-hypervisors").json["hypervisors"] == []
    assert api.client.get(f"/os-aggregates/{group['id']}").json["aggregate"]["hosts"] == []
    with api.db.connect() as tx:
        assert providers.by_uuids(tx, [node.uuid]) == {}
    assert api.client.delete(f"/os-services/{service.uuid}", version="2.53").status == 404


def test_a_silent_cell_is_unknown_and_never_not_found(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    service, node = api.add_host("cell2", "h2")
    api.silence("cell2")

    assert services(api, "2.69")["h2"] == {"binary": "nova-compute", "host": "h2", "status": "UNKNOWN"}
    assert set(services(api, "2.68")) == {"h1"}
    assert [h["hypervisor_hostname"] for h in api.client.get("/os-hypervisors").json["hypervisors"]] == ["h1"]
    shown = api.client.get(f"/os-hypervisors/{node.uuid}", version="2.53")
    assert shown.fault == ("serviceUnavailable", "Cell cell2 is not reachable.")
    assert shown.headers["Retry-After"]
    refused = api.client.put(f"/os-services/{service.uuid}", {"status": "enabled"}, version="2.53")
    assert (refused.status, refused.fault[1]) == (503, "Cell cell2 is not reachable.")
    zones = api.client.get("/os-availability-zone").json["availabilityZoneInfo"]
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}]


def test_readiness_tells_of_every_cell(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    assert api.client.get("/os-hypervisors").status == 200
    ready = api.client.get("/readyz", whole=True, token=None)

    assert ready.status == 200
    assert ready.json["cells"]["cell1"] == {"database": "ok", "queue": "not used yet"}
    assert set(ready.json["cells"]) == {"cell0", "cell1", "cell2"}


def test_hypervisors_with_their_servers(api: ComputeApi) -> None:
    _, node = api.add_host("cell1", "h1")
    api.add_host("cell2", "other")
    run_server(api, "cell1", "h1")
    server = {"uuid": "5f2d3f6c-0000-4000-8000-000000000001", "name": "one"}

    found = api.client.get("/os-hypervisors?with_servers=1", version="2.75").json["hypervisors"]
    assert [h["servers"] for h in found] == [[server], []]
    found = api.client.get("/os-hypervisors?with_servers=1", version="2.53").json["hypervisors"]
    assert [h.get("servers") for h in found] == [[server], None]
    shown = api.client.get(f"/os-hypervisors/{node.uuid}?with_servers=true", version="2.88").json["hypervisor"]
    assert shown["servers"] == [server]
    assert shown["uptime"] == node.uptime
    assert api.client.get("/os-hypervisors/h1/servers").json["hypervisors"][0]["servers"] == [server]
    assert api.client.get("/os-hypervisors/nobody/search").status == 404
    assert api.client.get("/os-hypervisors?hypervisor_hostname_pattern=oth", version="2.53").status == 200
    assert api.client.get("/os-hypervisors?hypervisor_hostname_pattern=x", version="2.53").status == 404
    assert api.client.get("/os-hypervisors?hypervisor_hostname_pattern=h&limit=1", version="2.53").status == 400
    assert api.client.get("/os-hypervisors/h1/search", version="2.53").status == 404


def test_pages_of_hypervisors(api: ComputeApi) -> None:
    for number in range(5):
        api.add_host("cell1" if number % 2 else "cell2", f"h{number}")
    seen: list[str] = []
    path = "/os-hypervisors?limit=2"
    while path:
        answer = api.client.get(path, version="2.53").json
        seen += [h["hypervisor_hostname"] for h in answer["hypervisors"]]
        links = answer.get("hypervisors_links", [])
        path = links[0]["href"].partition("/v2.1")[2] if links else ""

    assert sorted(seen) == ["h0", "h1", "h2", "h3", "h4"]
    assert api.client.get("/os-hypervisors?marker=x", version="2.53").status == 400


def test_sums(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    api.add_host("cell2", "h2", vcpus=16)
    sums = api.client.get("/os-hypervisors/statistics").json["hypervisor_statistics"]

    assert (sums["count"], sums["vcpus"], sums["free_ram_mb"]) == (2, 24, 2 * (16384 - 1024))


def test_zones_come_from_aggregates(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    service, _ = api.add_host("cell2", "h2")
    made = api.client.post("/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "east"}}).json
    path = f"/os-aggregates/{made['aggregate']['id']}/action"
    assert api.client.post(path, {"add_host": {"host": "h2"}}).status == 200

    def zones() -> dict[str, bool]:
        answer = api.as_user("ann", "p").get("/os-availability-zone").json
        return {zone["zoneName"]: zone["zoneState"]["available"] for zone in answer["availabilityZoneInfo"]}

    assert zones() == {"east": True, "nova": True}
    assert services(api)["h2"]["zone"] == "east"
    api.client.put(f"/os-services/{service.uuid}", {"status": "disabled"}, version="2.53")
    assert zones() == {"east": False, "nova": True}
    assert api.as_user("ann", "p").get("/os-availability-zone/detail").status == 403


def test_aggregates_refuse_what_would_confuse(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    run_server(api, "cell1", "h1")
    post = api.client.post
    plain = post("/os-aggregates", {"aggregate": {"name": "plain"}}).json["aggregate"]["id"]
    east = post("/os-aggregates", {"aggregate": {"name": "east", "availability_zone": "e"}}).json["aggregate"]["id"]

    assert post("/os-aggregates", {"aggregate": {"name": "plain"}}).status == 409
    assert post("/os-aggregates", {"aggregate": {"name": "x", "availability_zone": "a:b"}}).status == 400
    assert post(f"/os-aggregates/{plain}/action", {"add_host": {"host": "nowhere"}}).status == 404
    assert post(f"/os-aggregates/{plain}/action", {"add_host": {"host": "h1"}}).status == 200
    assert post(f"/os-aggregates/{plain}/action", {"add_host": {"host": "h1"}}).status == 409
    assert post(f"/os-aggregates/{east}/action", {"add_host": {"host": "h1"}}).status == 409
    assert api.client.put(f"/os-aggregates/{plain}", {"aggregate": {"availability_zone": "w"}}).status == 400
    assert api.client.put(f"/os-aggregates/{plain}", {"aggregate": {"name": "east"}}).status == 409
    assert api.client.put(f"/os-aggregates/{plain}", {"aggregate": {}}).status == 400
    assert api.client.delete(f"/os-aggregates/{plain}").status == 400
    assert post(f"/os-aggregates/{east}/action", {"remove_host": {"host": "h1"}}).status == 404
    assert api.client.get("/os-aggregates/999").status == 404
    assert api.client.get("/os-aggregates/abc").status == 400
    zone = {"set_metadata": {"metadata": {"availability_zone": "e2", "ssd": "1"}}}
    assert post(f"/os-aggregates/{east}/action", zone).json["aggregate"]["availability_zone"] == "e2"
    gone = {"set_metadata": {"metadata": {"ssd": None}}}
    assert post(f"/os-aggregates/{east}/action", gone).json["aggregate"]["metadata"] == {"availability_zone": "e2"}


def test_only_administrators_see_hosts(api: ComputeApi) -> None:
    ann = api.as_user("ann", "p")
    for path in ("/os-services", "/os-hypervisors", "/os-hypervisors/detail", "/os-aggregates"):
        assert ann.get(path).fault[0] == "forbidden"


@pytest.mark.parametrize("number", ["-1", "0", "10000000000", "9" * 30])
def test_numbers_that_nothing_has_are_not_found(api: ComputeApi, number: str) -> None:
    assert api.client.get(f"/os-aggregates/{number}").status == 404
    assert api.client.delete(f"/os-aggregates/{number}").status == 404
    assert api.client.post(f"/os-aggregates/{number}/action", {"add_host": {"host": "h1"}}).status == 404
    assert api.client.delete(f"/os-services/{number}", version="2.52").status == 404


def test_an_empty_zone_is_no_filter(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    every = api.client.get("/os-hosts", version="2.42").json["hosts"]

    assert api.client.get("/os-hosts?zone=", version="2.42").json["hosts"] == every != []


def test_an_empty_marker_is_the_first_page(api: ComputeApi) -> None:
    api.add_host("cell1", "h1")
    api.add_host("cell2", "h2")
    first = api.client.get("/os-hypervisors?limit=1", version="2.53").json["hypervisors"]

    assert api.client.get("/os-hypervisors?limit=1&marker=", version="2.53").json["hypervisors"] == first != []
