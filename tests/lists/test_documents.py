"""Migrations and usage have the published shape at all versions along the way, and show hosts only to whom they may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell_service.model.migration import Migration
from tests.edge import reference
from tests.edge.reference import VERSIONS, check_answer, parsed
from tests.lists.world import T0, Placed, World, minutes, ok, server

LIVE = Migration(
    id=7, uuid="11111111-2222-4333-8444-555555555555", instance_uuid=server(1).uuid, migration_type="live-migration",
    status="running", request_id="r", user_id="u1", project_id="p1", created_at=T0, source_compute="h1",
    dest_compute="h2", memory_total=9, memory_processed=4, memory_remaining=5,
)  # fmt: skip
ENDED = replace(LIVE, id=8, uuid="21111111-2222-4333-8444-555555555555", migration_type="resize", status="confirmed")


@pytest.fixture
def filled(world: World) -> World:
    world.fill([Placed(server(1, launched_at=T0), "cell1")], [("cell1", LIVE), ("cell1", ENDED)])
    return world


@pytest.mark.parametrize("version", VERSIONS)
def test_documents_have_the_published_shape(filled: World, version: str) -> None:
    reference.demand()
    period = f"?start={T0:%Y-%m-%dT%H:%M:%S}&end={minutes(60):%Y-%m-%dT%H:%M:%S}"
    asked = [
        ("/os-migrations", "/os-migrations"),
        ("/os-simple-tenant-usage", f"/os-simple-tenant-usage{period}&detailed=1"),
        ("/os-simple-tenant-usage/{id}", f"/os-simple-tenant-usage/p1{period}"),
    ]
    if parsed(version) >= (2, 23):
        base = f"/servers/{LIVE.instance_uuid}/migrations"
        asked += [("/servers/{server_id}/migrations", base), ("/servers/{server_id}/migrations/{id}", f"{base}/7")]
    for path, sent in asked:
        reply = ok(filled.admin.get(sent, version=version))
        check_answer("GET", path, version, reply.status, reply.json, None)


def test_only_live_migrations_under_way_are_a_servers(filled: World) -> None:
    base = f"/servers/{LIVE.instance_uuid}/migrations"
    assert [each["id"] for each in ok(filled.admin.get(base, version="2.80")).json["migrations"]] == [7]
    assert filled.admin.get(f"{base}/8", version="2.80").status == 404
    assert filled.admin.get(base, version="2.22").status == 404


def test_links_are_those_of_live_migrations_under_way(filled: World) -> None:
    shown = {each["id"]: each for each in ok(filled.admin.get("/os-migrations", version="2.80")).json["migrations"]}
    assert "links" in shown[7]
    assert "links" not in shown[8]
    assert shown[7]["source_compute"] == "h1"


@pytest.mark.parametrize("query", ["marker=nosuch", "limit=-1", "nosuch=1", "changes-since=x"])
def test_bad_queries_are_refused(filled: World, query: str) -> None:
    assert filled.admin.get(f"/os-migrations?{query}", version="2.80").status == 400


def test_readers_do_not_see_migrations(filled: World) -> None:
    assert filled.user.get("/os-migrations", version="2.80").status == 403
