"""Lists while a cell does not answer: what is shown of its servers, where, and what says that something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from api_cell.config import ApiSection, ApiSettings
from cell_service.model.lifecycle import VmState
from cell_service.model.migration import Migration
from tests.lists.world import T0, Placed, World, minutes, ok, pages, server

MISSING = "X-Polycell-Missing-Cells"
# in order of creation; every third one in the cell that will be silent
SERVERS = [
    Placed(
        server(number, display_name=f"n{9 - number}", created_at=minutes(number), host="h", launched_at=T0),
        f"cell{number % 3 + 1}",
    )
    for number in range(1, 10)
]
NEWEST = [each.server.uuid for each in reversed(SERVERS)]
SILENT = [each.server.uuid for each in SERVERS if each.owner == "cell2"]


@pytest.fixture
def silent(world: World) -> Iterator[World]:
    """cell2 does not answer."""
    migrations = [
        (each.owner or "", Migration(
            id=number, uuid=each.server.uuid, instance_uuid=each.server.uuid, migration_type="resize",
            status="finished", request_id="r", user_id="u1", project_id="p1", created_at=each.server.created_at,
        ))
        for number, each in enumerate(SERVERS, 1)
    ]  # fmt: skip
    world.fill(SERVERS, migrations)
    world.api.silence("cell2")
    yield world
    world.api.wake("cell2")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", NEWEST),
        ("?sort_key=created_at&sort_dir=asc", NEWEST[::-1]),
        ("?sort_key=display_name&sort_dir=asc", NEWEST),
        ("?name=n", NEWEST),
        ("?name=n[123]$", NEWEST[1:4]),
        ("?sort_key=uuid&sort_dir=desc", sorted(NEWEST, reverse=True)),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 4, 20])
def test_what_the_mappings_know_is_in_its_place(silent: World, query: str, expected: list[str], limit: int) -> None:
    assert pages(silent.user, f"/servers{query}", "servers", limit) == expected
    assert pages(silent.user, f"/servers/detail{query}", "servers", limit) == expected
    reply = ok(silent.user.get(f"/servers/detail{query}", version="2.69"))
    assert reply.headers[MISSING] == "cell2"
    shown = {each["id"]: each for each in reply.json["servers"]}
    for uuid in set(SILENT) & set(expected):
        assert shown[uuid]["status"] == "UNKNOWN"
        assert set(shown[uuid]) == {"id", "status", "tenant_id", "created", "links"}
    brief = {each["id"]: each for each in ok(silent.user.get(f"/servers{query}", version="2.69")).json["servers"]}
    for uuid in set(SILENT) & set(expected):
        assert set(brief[uuid]) == {"id", "status", "links"}


@pytest.mark.parametrize(
    "query", ["?status=ACTIVE", "?sort_key=host", "?host=h", "?changes-since=2020-01-01T00:00:00Z"]
)
def test_what_cannot_be_decided_is_left_out_and_said(silent: World, query: str) -> None:
    for version in ("2.68", "2.69"):
        reply = ok(silent.admin.get(f"/servers{query}&all_tenants=1", version=version))
        assert {each["id"] for each in reply.json["servers"]} == set(NEWEST) - set(SILENT)
        assert reply.headers[MISSING] == "cell2"


@pytest.mark.parametrize("query", ["", "?name=n", "?sort_key=display_name&sort_dir=asc"])
def test_before_2_69_pages_are_whole_without_the_silent_cell(silent: World, query: str) -> None:
    expected = [uuid for uuid in NEWEST if uuid not in SILENT]
    for path in ("/servers", "/servers/detail"):
        assert pages(silent.user, f"{path}{query}", "servers", 2, version="2.68") == expected


def test_a_marker_in_the_silent_cell(silent: World) -> None:
    marker = SILENT[1]
    behind = NEWEST[NEWEST.index(marker) + 1 :]
    for query in ("", "&name=n", "&sort_key=display_name&sort_dir=asc"):
        reply = ok(silent.user.get(f"/servers?marker={marker}{query}", version="2.69"))
        assert [each["id"] for each in reply.json["servers"]] == behind
    reply = silent.user.get(f"/servers?marker={marker}&sort_key=vm_state", version="2.69")
    assert reply.status == 503
    assert "Retry-After" in reply.headers


def test_a_deleted_marker(world: World) -> None:
    gone = replace(SERVERS[4].server, deleted_at=minutes(20), vm_state=VmState.DELETED)
    world.fill([*SERVERS[:4], Placed(gone, "cell1"), *SERVERS[5:]])
    for query in ("", "&name=n", "&sort_key=host&sort_dir=asc&sort_key=created_at&sort_dir=desc"):
        reply = ok(world.user.get(f"/servers?marker={gone.uuid}{query}", version="2.69"))
        assert [each["id"] for each in reply.json["servers"]] == NEWEST[5:]
    assert world.user.get("/servers?marker=8d1c64f0-5d2f-4bd8-a5a5-66ac6c3e9b34", version="2.69").status == 400


def test_a_server_of_a_silent_cell_is_never_not_found(silent: World) -> None:
    uuid = SILENT[0]
    for path in (f"/servers/{uuid}/os-instance-actions", f"/servers/{uuid}/migrations", f"/servers/{uuid}/tags"):
        reply = silent.user.get(path, version="2.69")
        assert reply.status == 503
        assert "Retry-After" in reply.headers
    assert silent.user.get(f"/servers/{uuid}", version="2.68").status == 503
    assert ok(silent.user.get(f"/servers/{uuid}", version="2.69")).json["server"]["status"] == "UNKNOWN"


def test_other_lists_say_what_they_lack(silent: World) -> None:
    silent.api.add_host("cell1", "near")
    for path, noun in (
        ("/os-migrations", "migrations"),
        ("/os-services", "services"),
        ("/os-hypervisors", "hypervisors"),
        ("/os-availability-zone", "availabilityZoneInfo"),
        ("/os-availability-zone/detail", "availabilityZoneInfo"),
        ("/os-instance_usage_audit_log", "instance_usage_audit_logs"),
        ("/os-instance_usage_audit_log/2026-01-01", "instance_usage_audit_log"),
        ("/os-simple-tenant-usage?start=2026-01-01T00:00:00&end=2026-01-02T00:00:00&detailed=1", "tenant_usages"),
    ):
        reply = ok(silent.admin.get(path, version="2.80"))
        assert reply.headers[MISSING] == "cell2"
        assert reply.json[noun]
    assert ok(silent.admin.get("/os-hosts", version="2.42")).headers[MISSING] == "cell2"
    listed = ok(silent.admin.get("/os-migrations", version="2.80")).json["migrations"]
    assert [each["uuid"] for each in listed] == [uuid for uuid in NEWEST if uuid not in SILENT]


def test_missing_cells_are_counted(silent: World) -> None:
    ok(silent.admin.get("/servers?all_tenants=1", version="2.69"))
    told = silent.admin.request("GET", "/metrics", whole=True)
    assert told.headers["Content-Type"].startswith("text/plain")
    assert b'polycell_answers_missing_cell_total{api="compute",cell="cell2"}' in told.raw
    assert b'polycell_cell_up{cell="cell2",server="database"} 0' in told.raw


def test_an_operator_may_refuse_lists_that_lack_something(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = ApiSettings(api=ApiSection(auth_strategy="noauth2", list_records_by_skipping_down_cells=False))
    world = World(tmp_path_factory.mktemp("refusing"), settings)
    world.fill(SERVERS)
    world.api.silence("cell2")
    assert world.user.get("/servers", version="2.68").status == 503
    assert world.user.get("/servers?status=ACTIVE", version="2.69").status == 503
    ok(world.user.get("/servers", version="2.69"))
    ok(world.user.get("/servers?name=n", version="2.69"))
    world.api.close()
