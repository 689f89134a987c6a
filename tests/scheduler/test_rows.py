"""Host aggregates and server groups: their rows, and what they tell the schedulers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from api_cell.scheduler.config import read_settings
from api_cell.scheduler.scheduler import Scheduler
from cell_service.config import load
from cell_service.db.sql.engine import Database
from cell_service.errors import (
    AggregateHostExists,
    AggregateHostNotFound,
    AggregateNameExists,
    AggregateNotFound,
    HostInOtherZone,
    ServerGroupNotFound,
)
from mapping_db import aggregates, schema, server_groups
from mapping_db.placement import changes
from tests.scheduler.federation import Federation, new_uuid

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def rows(empty_url: str) -> Iterator[Database]:
    made = Database(empty_url)
    schema.metadata.create_all(made.engine)
    yield made
    made.dispose()


def test_aggregates_and_their_zones(rows: Database) -> None:
    def fill(tx: object) -> tuple[int, int]:
        east = aggregates.add(tx, new_uuid(), "east", "zone-e", NOW)  # type: ignore[arg-type]
        plain = aggregates.add(tx, new_uuid(), "plain", None, NOW)  # type: ignore[arg-type]
        for one in (east, plain):
            aggregates.add_host(tx, one.id, "h1", NOW)  # type: ignore[arg-type]
        return east.id, plain.id

    east, plain = rows.run(fill)
    with rows.connect() as tx:
        assert aggregates.zones(tx) == {"h1": "zone-e"}
        assert [(one.name, one.hosts) for one in aggregates.every(tx)] == [("east", ("h1",)), ("plain", ("h1",))]
    for work, error in (
        (lambda tx: aggregates.add(tx, new_uuid(), "east", None, NOW), AggregateNameExists),
        (lambda tx: aggregates.rename(tx, plain, "east", NOW), AggregateNameExists),
        (lambda tx: aggregates.add_host(tx, east, "h1", NOW), AggregateHostExists),
        (lambda tx: aggregates.remove_host(tx, east, "h2", NOW), AggregateHostNotFound),
        (lambda tx: aggregates.set_metadata(tx, plain, {"availability_zone": "zone-w"}, NOW), HostInOtherZone),
        (lambda tx: aggregates.get(tx, 99), AggregateNotFound),
        (lambda tx: aggregates.remove(tx, 99, NOW), AggregateNotFound),
    ):
        with pytest.raises(error):
            rows.run(work)  # type: ignore[arg-type]
    changed = rows.run(lambda tx: aggregates.set_metadata(tx, east, {"a": "1", "availability_zone": None}, NOW))
    assert changed.metadata == {"a": "1"}
    rows.run(lambda tx: aggregates.remove_host(tx, east, "h1", NOW))
    rows.run(lambda tx: aggregates.remove(tx, east, NOW))
    with rows.connect() as tx:
        assert aggregates.zones(tx) == {}


def test_every_change_of_an_aggregate_is_in_the_feed(rows: Database) -> None:
    made = rows.run(lambda tx: aggregates.add(tx, new_uuid(), "a", None, NOW))
    for work in (
        lambda tx: aggregates.add_host(tx, made.id, "h", NOW),
        lambda tx: aggregates.set_metadata(tx, made.id, {"k": "v"}, NOW),
        lambda tx: aggregates.rename(tx, made.id, "b", NOW),
        lambda tx: aggregates.remove_host(tx, made.id, "h", NOW),
        lambda tx: aggregates.remove(tx, made.id, NOW),
    ):
        with rows.connect() as tx:
            last = changes.newest(tx)
        rows.run(work)
        with rows.connect() as tx:
            assert [provider for _, provider in changes.since(tx, last)] == [changes.HOST_AGGREGATES]


def test_groups_and_their_members(rows: Database) -> None:
    group = rows.run(
        lambda tx: server_groups.add(
            tx, uuid=new_uuid(), project_id="p1", user_id="u1", name="g", policy="anti-affinity",
            rules={"max_server_per_host": 3}, now=NOW,
        )
    )  # fmt: skip
    one, two = new_uuid(), new_uuid()
    rows.run(lambda tx: server_groups.join(tx, group.uuid, [one, two]))
    rows.run(lambda tx: server_groups.place(tx, group, one, "h1"))
    with rows.connect() as tx:
        found = server_groups.get(tx, group.uuid)
        assert (dict(found.members), found.max_server_per_host) == ({one: "h1", two: None}, 3)
        assert server_groups.of_instance(tx, two) == group.uuid
        assert (server_groups.count(tx, "p1"), server_groups.count(tx, "p2")) == (1, 0)
        assert [each.uuid for each in server_groups.of_project(tx, None, limit=5)] == [group.uuid]
    rows.run(lambda tx: server_groups.leave(tx, [one]))
    with rows.connect() as tx:
        assert set(dict(server_groups.get(tx, group.uuid).members)) == {two}
    rows.run(lambda tx: server_groups.remove(tx, group.uuid))
    with pytest.raises(ServerGroupNotFound), rows.connect() as tx:
        server_groups.get(tx, group.uuid)


def test_settings_have_novas_names_and_defaults(tmp_path: object) -> None:
    settings = read_settings(load())
    assert settings.scheduler.max_attempts == 3
    assert settings.filters.io_ops_weight_multiplier == -1.0
    assert settings.filters.enabled_filters[0] == "ComputeFilter"


def test_a_started_scheduler_looks_at_the_cells_by_itself_and_stops(federation: Federation) -> None:
    federation.cell("a", 2)
    scheduler = Scheduler(federation.cloud)
    scheduler.start()
    try:
        [outcome] = scheduler.select(federation.ctx, [federation.spec()])
        assert outcome is not None
    finally:
        scheduler.stop()
