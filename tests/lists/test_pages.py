"""However rows are spread over cells, a list gives the pages that one database with all of them would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cell_service.model.instance import FixedIp, Instance, Vif
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.migration import Migration
from tests.lists.world import (
    LARGE,
    SMALL,
    T0,
    Placed,
    World,
    minutes,
    ok,
    ordered,
    pages,
    server,
    waiting,
)

CELLS = ("cell0", "cell1", "cell2", "cell3")
KEYS = (
    "created_at", "display_name", "host", "key_name", "task_state", "vm_state", "launched_at", "progress",
    "instance_type_id", "config_drive", "uuid", "updated_at", "project_id", "user_id", "availability_zone",
)  # fmt: skip
FILTERS: dict[str, tuple[dict[str, str], Callable[[Instance], bool]]] = {
    "none": ({}, lambda s: s.deleted_at is None),
    "name": ({"name": "^a"}, lambda s: s.deleted_at is None and s.display_name.startswith("a")),
    "end": ({"name": "[bB]$"}, lambda s: s.deleted_at is None and s.display_name in ("ab", "B")),
    "any": ({"name": "^.$"}, lambda s: s.deleted_at is None and len(s.display_name) == 1),
    "active": ({"status": "ACTIVE"}, lambda s: s.deleted_at is None and s.vm_state is VmState.ACTIVE),
    "building": ({"vm_state": "building"}, lambda s: s.deleted_at is None and s.vm_state is VmState.BUILDING),
    "deleted": ({"deleted": "true"}, lambda s: s.deleted_at is not None),
    "since": ({"changes-since": minutes(2).isoformat()}, lambda s: (s.updated_at or s.created_at) >= minutes(2)),
    "before": ({"changes-before": minutes(2).isoformat()}, lambda s: (s.updated_at or s.created_at) <= minutes(2)),
    "host": ({"host": "h1"}, lambda s: s.deleted_at is None and s.host == "h1"),
    "locked": ({"locked": "true"}, lambda s: s.deleted_at is None and s.locked_by is not None),
    "unlocked": ({"locked": "false"}, lambda s: s.deleted_at is None and s.locked_by is None),
    "user": ({"user_id": "u2"}, lambda s: s.deleted_at is None and s.user_id == "u2"),
    "flavor": ({"flavor": "2"}, lambda s: s.deleted_at is None and s.flavor is LARGE),
    "tags": ({"tags-any": "x,y"}, lambda s: s.deleted_at is None and bool({"x", "y"} & set(s.tags))),
    "not-tags": ({"not-tags": "x,y"}, lambda s: s.deleted_at is None and not {"x", "y"} <= set(s.tags)),
    "metadata": ({"metadata": '{"k": "1"}'}, lambda s: s.deleted_at is None and s.metadata.get("k") == "1"),
}  # fmt: skip
# alike to collations that fold case, accents or spaces, or that count in UTF-16
NAMES = ("a", "a ", "ab", "a!", "A", "ä", "a\u0308", "B", "\uff5a", "\U0001f600")
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

times = st.integers(0, 3).map(minutes) | st.integers(0, 3).map(lambda more: minutes(1) + timedelta(microseconds=more))


@st.composite
def placed(draw: st.DrawFn, number: int) -> Placed:
    made = server(
        number,
        project_id=draw(st.sampled_from(["p1", "p1", "p2"])),
        user_id=draw(st.sampled_from(["u1", "u2"])),
        display_name=draw(st.sampled_from(NAMES)),
        created_at=draw(times),
        updated_at=draw(st.none() | times),
        launched_at=draw(st.none() | times),
        host=draw(st.sampled_from([None, "h1", "h2"])),
        key_name=draw(st.sampled_from([None, "k1", "k2"])),
        availability_zone=draw(st.sampled_from([None, "z"])),
        flavor=draw(st.sampled_from([SMALL, LARGE])),
        config_drive=draw(st.booleans()),
        progress=draw(st.integers(0, 2)),
        locked_by=draw(st.sampled_from([None, "owner"])),
        tags=draw(st.sampled_from([(), ("x",), ("x", "y")])),
        metadata=draw(st.sampled_from([{}, {"k": "1"}])),
        vm_state=draw(st.sampled_from([VmState.ACTIVE, VmState.STOPPED, VmState.ERROR])),
        task_state=draw(st.sampled_from([None, None, Task.POWERING_OFF])),
    )
    where = draw(st.sampled_from([*CELLS, None]))
    if where is None:
        return Placed(waiting(made), None)
    if draw(st.integers(0, 5)) == 0:
        made = _deleted(made)
    elif draw(st.integers(0, 3)) == 0:
        others = [name for name in CELLS if name != where]
        return Placed(made, where, draw(st.sampled_from(others)), draw(st.booleans()))
    return Placed(made, where)


def _deleted(made: Instance) -> Instance:
    end = minutes(3)
    return replace(
        made, deleted_at=end, updated_at=end, terminated_at=end, vm_state=VmState.DELETED, task_state=None, tags=()
    )


worlds = st.integers(0, 14).flatmap(lambda count: st.tuples(*(placed(number) for number in range(1, count + 1))))
sorts = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["asc", "desc"])), max_size=2, unique_by=lambda p: p[0]
)


@EXAMPLES
@given(
    rows=worlds,
    sort=sorts,
    chosen=st.sampled_from(sorted(FILTERS)),
    limit=st.integers(1, 5),
    all_of=st.booleans(),
    path=st.sampled_from(["/servers", "/servers/detail"]),
)
def test_servers(
    world: World, rows: tuple[Placed, ...], sort: list[tuple[str, str]], chosen: str, limit: int, all_of: bool,
    path: str,
) -> None:  # fmt: skip
    world.fill(rows)
    words, passes = FILTERS[chosen]
    query = [*words.items(), *(("sort_key", key) for key, _ in sort), *(("sort_dir", way) for _, way in sort)]
    default = sort[0][1] if sort else "desc"
    named = {key for key, _ in sort}
    order = [*sort, *((key, default) for key in ("created_at", "uuid") if key not in named)]
    project = None if all_of else "p1"
    query += [("all_tenants", "1")] if all_of else [("tenant_id", "p1"), ("all_tenants", "1")]

    found = pages(world.admin, f"{path}?{urlencode(query)}", "servers", limit)

    members = [each.server for each in rows if passes(each.server) and project in (None, each.server.project_id)]
    assert found == [each.uuid for each in ordered(members, order, pads=world.pads)]


@pytest.mark.parametrize("limit", [1, 3, 9])
@pytest.mark.parametrize("way", ["asc", "desc"])
def test_names_that_differ_in_a_space(world: World, way: str, limit: int) -> None:
    rows = [
        Placed(server(number, display_name=name, created_at=minutes(minute)), cell)
        for number, (name, minute, cell) in enumerate(
            [("a ", 1, "cell1"), ("a", 2, "cell1"), ("a ", 3, "cell2"), ("a", 4, "cell2"), ("a", 6, "cell3"),
             ("a ", 7, "cell3"), ("a b", 0, "cell3")]
        )
    ]  # fmt: skip
    world.fill(rows)
    found = pages(world.user, f"/servers?sort_key=display_name&sort_dir={way}", "servers", limit)
    order = [("display_name", way), ("created_at", way), ("uuid", way)]
    assert found == [each.uuid for each in ordered([each.server for each in rows], order, pads=world.pads)]


@pytest.mark.parametrize("query", ["", "status=ACTIVE", "name=s", "sort_key=display_name", "host=h1", "deleted=1"])
def test_names_are_those_of_the_whole_documents(world: World, query: str) -> None:
    rows = [
        Placed(server(0, display_name="s of cell1"), "cell1"),
        Placed(server(1, display_name="s on its way"), "cell2", "cell3", True),
        Placed(server(2, display_name="s that came"), "cell3", "cell1", False),
        Placed(server(3, display_name="s on a host", host="h1"), "cell2"),
        Placed(_deleted(server(4, display_name="s that was")), "cell2"),
        Placed(waiting(server(5, display_name="s of no cell")), None),
    ]
    world.fill(rows)
    known = {each.server.uuid: each.server.display_name for each in rows}
    listed = {path: world.admin.get(f"{path}?{query}&tenant_id=p1&all_tenants=1", version="2.96").json["servers"]
              for path in ("/servers", "/servers/detail")}  # fmt: skip
    whole = [{name: each[name] for name in ("id", "name", "links")} for each in listed["/servers/detail"]]
    assert listed["/servers"] == whole
    assert whole, "the query finds something"
    assert all(known[each["id"]] == each["name"] for each in whole)


@pytest.mark.parametrize("pattern", ["(", "[", "*a", "a{2,1}", "\\"])
@pytest.mark.parametrize("word", ["name", "ip"])
def test_bad_patterns_are_refused(world: World, word: str, pattern: str) -> None:
    port = Vif("p", "n", "net", "fa:16:3e:00:00:01", (FixedIp("10.0.0.1", 4, "s"),))
    world.fill([Placed(server(1, network_info=(port,)), "cell1"), Placed(server(2), "cell2")])
    reply = world.admin.get(f"/servers?{urlencode({word: pattern, 'all_tenants': '1'})}", version="2.96")
    assert reply.status == 400, reply.raw


# -- migrations -------------------------------------------------------------------------------


@st.composite
def moved(draw: st.DrawFn, number: int) -> tuple[Placed, list[tuple[str, Migration]]]:
    """A server with a migration; the row is in two cells when the move was between them."""
    owner, other = draw(st.permutations(CELLS[1:]))[:2]
    crossing = draw(st.booleans())
    made = server(number, project_id=draw(st.sampled_from(["p1", "p2"])))
    migration = Migration(
        id=number, uuid=str(made.uuid), instance_uuid=made.uuid, created_at=draw(times), request_id="req-1",
        migration_type=draw(st.sampled_from(["resize", "live-migration"])), user_id="u1", project_id=made.project_id,
        status=draw(st.sampled_from(["running", "finished", "error"])), cross_cell_move=crossing,
        source_compute=draw(st.sampled_from(["h1", "h2"])), dest_compute=draw(st.sampled_from(["h2", None])),
        updated_at=draw(st.none() | times),
    )  # fmt: skip
    copies = [(owner, replace(migration, hidden=crossing and draw(st.booleans())))]
    if crossing:
        copies.append((other, replace(migration, hidden=True)))
    return Placed(made, owner, other if crossing else None), copies


MIGRATION_FILTERS: dict[str, tuple[dict[str, str], Callable[[Migration], bool]]] = {
    "none": ({}, lambda m: True),
    "host": ({"host": "h2"}, lambda m: "h2" in (m.source_compute, m.dest_compute)),
    "status": ({"status": "running"}, lambda m: m.status == "running"),
    "type": ({"migration_type": "resize"}, lambda m: m.migration_type == "resize"),
    "source": ({"source_compute": "h1"}, lambda m: m.source_compute == "h1"),
    "project": ({"project_id": "p2"}, lambda m: m.project_id == "p2"),
    "since": ({"changes-since": minutes(2).isoformat()}, lambda m: (m.updated_at or m.created_at) >= minutes(2)),
    "before": ({"changes-before": minutes(2).isoformat()}, lambda m: (m.updated_at or m.created_at) <= minutes(2)),
}


@EXAMPLES
@given(
    rows=st.integers(0, 10).flatmap(lambda count: st.tuples(*(moved(number) for number in range(1, count + 1)))),
    chosen=st.sampled_from(sorted(MIGRATION_FILTERS)),
    limit=st.integers(1, 5),
)
def test_migrations(
    world: World, rows: tuple[tuple[Placed, list[tuple[str, Migration]]], ...], chosen: str, limit: int
) -> None:
    world.fill([placed for placed, _ in rows], [copy for _, copies in rows for copy in copies])
    words, passes = MIGRATION_FILTERS[chosen]

    found = pages(world.admin, f"/os-migrations?{urlencode(words)}", "migrations", limit, key="uuid")

    members = [copies[0][1] for _, copies in rows if passes(copies[0][1])]
    assert found == [each.uuid for each in ordered(members, [("created_at", "desc"), ("id", "desc")])]


# -- usage ------------------------------------------------------------------------------------


def _ran(made: Instance) -> float:
    """Hours between minute 1 and minute 3."""
    if made.launched_at is None:
        return 0.0
    end = min(made.terminated_at or minutes(3), minutes(3))
    return max((end - max(made.launched_at, minutes(1))).total_seconds() / 3600, 0.0)


@EXAMPLES
@given(rows=worlds, limit=st.integers(1, 6))
def test_usage(world: World, rows: tuple[Placed, ...], limit: int) -> None:
    world.fill(rows)
    period = urlencode({"start": minutes(1).isoformat(), "end": minutes(3).isoformat(), "detailed": "1"})
    members = [
        each.server
        for each in rows
        if each.owner is not None
        and each.server.launched_at is not None
        and each.server.launched_at < minutes(3)
        and (each.server.terminated_at is None or each.server.terminated_at > minutes(1))
    ]

    whole = ok(world.admin.get(f"/os-simple-tenant-usage?{period}", version="2.39")).json["tenant_usages"]
    assert [each["tenant_id"] for each in whole] == sorted({each.project_id for each in members})
    for told in whole:
        own = [each for each in members if each.project_id == told["tenant_id"]]
        assert abs(told["total_hours"] - sum(map(_ran, own))) < 1e-9
        assert abs(told["total_memory_mb_usage"] - sum(_ran(s) * s.flavor.memory_mib for s in own)) < 1e-6
        one = ok(world.admin.get(f"/os-simple-tenant-usage/{told['tenant_id']}?{period}", version="2.39")).json
        assert one["tenant_usage"] == told

    paged: list[str] = []
    path = f"/os-simple-tenant-usage?{period}&limit={limit}"
    for _ in range(50):
        answer = ok(world.admin.get(path, version="2.40")).json
        page = [server["instance_id"] for told in answer["tenant_usages"] for server in told["server_usages"]]
        paged += page
        if "tenant_usages_links" not in answer:
            break
        assert len(page) == limit
        path = answer["tenant_usages_links"][0]["href"].split("/v2.1", 1)[1]
    assert paged == [each.uuid for each in ordered(members, [("project_id", "asc"), ("uuid", "asc")])]


def test_a_project_without_servers_used_nothing(world: World) -> None:
    world.fill([Placed(server(1, launched_at=T0), "cell1")])
    assert ok(world.admin.get("/os-simple-tenant-usage/p9", version="2.40")).json == {"tenant_usage": {}}
    assert world.user.get("/os-simple-tenant-usage/p9", version="2.40").status == 403
    assert world.admin.get("/os-simple-tenant-usage?start=x", version="2.40").status == 400
    assert world.admin.get("/os-simple-tenant-usage?start=2026-02-01T00:00:00&end=2026-01-01T00:00:00").status == 400
    assert world.admin.get("/os-simple-tenant-usage?marker=x", version="2.40").status == 400
