"""cell_v2 check: what it finds, what it mends, and that silent is never empty."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from cell_service.db import identity, instances, services
from cell_service.db.schema import instances as rows
from cell_service.model.move import MoveKind, MovePhase
from mapping_db import host_mappings, host_moves, instance_mappings, moves, quotas
from mapping_db.cell_mappings import CellMapping
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.moves import Move
from mapping_db.schema import cell_mappings as mappings_table
from mapping_db.schema import moves as moves_table
from tests.manage.conftest import NOW, Ran, Site
from tests.manage.test_allocations import add_provider


def check(site: Site, *words: str) -> Ran:
    return site.run("cell_v2", "check", "-f", "json", *words)


def texts(ran: Ran, level: str = "") -> list[str]:
    return [each["text"] for each in json.loads(ran.out)["findings"] if level in ("", each["level"])]


def well(site: Site, *names: str) -> list[CellMapping]:
    """Cells of which nothing can be said against."""
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    return [site.add_cell(name) for name in names]


def owner_of(site: Site, uuid: str) -> InstanceMapping:
    with site.database("api").connect() as tx:
        return instance_mappings.get(tx, uuid)


def point(site: Site, uuid: str, cell: CellMapping, **more: Any) -> None:
    mapping = InstanceMapping(uuid, "p", "u", NOW, "n", 2, 1024, cell_id=cell.id, **more)
    with site.database("api").begin() as tx:
        instance_mappings.insert_new(tx, [mapping])
        quotas.reserve(tx, "p", "u", {"instances": 1, "cores": 2, "ram": 1024}, limits={})


def test_cells_that_are_well(site: Site) -> None:
    one, _ = well(site, "c1", "c2")
    site.add_host("c1", "h1")
    site.run("cell_v2", "discover_hosts")
    instance = site.add_instance("c1", host="h1")
    point(site, instance, one)
    assert texts(check(site), "warning")[0].startswith(f"instance {instance} on h1 has no allocation")
    add_provider(site, "h1")
    assert site.run("placement", "heal_allocations").code == 0
    ran = check(site)
    assert (ran.code, texts(ran)) == (0, [])
    reported = site.run("cell_v2", "check")
    assert "3 cells are well." in reported.out
    assert site.run("cell_v2", "check", "--cell", "nobody").code == 127


def test_a_silent_cell_is_an_error_and_nothing_in_it_is_mended(site: Site) -> None:
    one, _ = well(site, "c1", "c2")
    lost = site.add_instance("c2")
    point(site, lost, one)
    site.run("cell_v2", "update_cell", "--cell_uuid", one.uuid, "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    ran = check(site, "--repair")
    assert ran.code == 2
    assert [text for text in texts(ran, "error") if text.startswith("is unreachable at 127.0.0.1:1: ")]
    assert not owner_of(site, lost).gone


def test_a_queue_is_probed_whether_the_database_answers_or_not(site: Site) -> None:
    _, two, three = well(site, "c1", "c2", "c3")
    dead = "rabbit://u:p@127.0.0.1:1/x"
    site.run("cell_v2", "update_cell", "--cell_uuid", two.uuid, "--transport-url", dead)
    both = ("--transport-url", dead + "y", "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    site.run("cell_v2", "update_cell", "--cell_uuid", three.uuid, *both)
    ran = check(site)
    assert (ran.code, len(texts(ran, "error"))) == (2, 3)
    assert sum("unreachable at 127.0.0.1:1: " in text and "p@" not in text for text in texts(ran, "error")) == 3
    detail = site.run("cell_v2", "list_cells", "--detail", "-f", "json")
    assert {cell["name"]: cell["queue"]["reachable"] for cell in detail.json if cell["queue"]} == {
        "c1": True, "c2": False, "c3": False
    }  # fmt: skip
    assert detail.code == 1
    assert "c2: queue at 127.0.0.1:1: " in site.run("cell_v2", "list_cells", "--detail").out


def test_a_host_that_is_down_is_named_unless_it_was_disabled(site: Site) -> None:
    well(site, "c1")
    for host in ("dead", "idle"):
        site.add_host("c1", host, up=False)
    site.add_host("c1", "well")
    site.run("cell_v2", "discover_hosts")
    with site.database("c1").begin() as tx:
        idle = services.by_host(tx, "idle", services.COMPUTE)
        services.change(tx, idle.uuid, now=NOW, disabled=True)
    ran = check(site)
    assert (ran.code, texts(ran, "warning")) == (1, ["host dead is down"])
    shown = site.run("cell_v2", "list_cells", "--detail").out
    assert "c1: host dead is down; host idle is down" in shown
    assert "1/3" in shown


def test_a_mapping_without_an_instance_is_buried_and_its_quota_given_back(site: Site) -> None:
    [one] = well(site, "c1")
    lost = "00000000-0000-4000-8000-00000000dead"
    point(site, lost, one)
    ran = check(site, "--repair", "--dry-run")
    assert ran.code == 2
    assert texts(ran) == [f"instance {lost} is mapped to the cell, which has no row of it"]
    assert not owner_of(site, lost).gone

    ran = check(site, "--repair")
    assert (ran.code, len(json.loads(ran.out)["mended"])) == (0, 1)
    assert owner_of(site, lost).gone
    with site.database("api").connect() as tx:
        assert quotas.usage_of(tx, "p")["instances"] == 0
    assert check(site).code == 0


def test_a_mapping_to_no_cell_that_nobody_builds_is_buried(site: Site) -> None:
    well(site, "c1")
    lost = "00000000-0000-4000-8000-00000000dead"
    with site.database("api").begin() as tx:
        instance_mappings.insert_new(tx, [InstanceMapping(lost, "p", "u", NOW, "n", 2, 1024)])
        quotas.reserve(tx, "p", "u", {"instances": 1, "cores": 2, "ram": 1024}, limits={})
    assert texts(check(site)) == [f"instance {lost} is in no cell, and has no build request"]
    assert check(site, "--repair").code == 0
    assert owner_of(site, lost).gone


def test_an_instance_without_a_mapping_is_mapped(site: Site) -> None:
    [one] = well(site, "c1")
    uuid = site.add_instance("c1", host="h1")
    assert check(site, "--quick").code == 0
    assert texts(check(site)) == [f"instance {uuid} has no mapping, so no user can see it"]
    assert check(site, "--repair").code == 0
    assert owner_of(site, uuid).cell_id == one.id


def test_an_instance_in_two_cells_is_hidden_where_it_is_not_owned_and_then_removed(site: Site) -> None:
    one, _ = well(site, "c1", "c2")
    uuid = site.add_instance("c1")
    with site.database("c1").connect() as tx:
        there = instances.get(tx, uuid)
    with site.database("c2").begin() as tx:
        instances.insert_new(tx, there)
    point(site, uuid, one)
    assert texts(check(site, "--repair"), "error") == []
    assert texts(check(site)) == [f"a hidden row of instance {uuid} is left from a move"]
    assert check(site, "--repair").code == 0
    with site.database("c2").connect() as tx:
        assert tx.scalar(select(rows.c.id).where(rows.c.uuid == uuid)) is None
    with site.database("c1").connect() as tx:
        assert instances.get(tx, uuid).uuid == uuid


def test_an_instance_whose_row_is_in_another_cell_is_mapped_there(site: Site) -> None:
    """So it is in a restored set when the instance went over while the snapshot was taken."""
    one, two = well(site, "c1", "c2")
    uuid = site.add_instance("c2")
    point(site, uuid, one)
    assert len(texts(check(site, "--repair"), "error")) == 0
    assert (owner_of(site, uuid).cell_id, owner_of(site, uuid).gone) == (two.id, False)
    with site.database("c2").connect() as tx:
        assert not tx.scalar(select(rows.c.hidden))
    assert check(site).code == 0


def test_an_instance_is_not_given_up_while_a_cell_that_may_have_it_is_down(site: Site) -> None:
    one, two = well(site, "c1", "c2")
    lost = "00000000-0000-4000-8000-00000000dead"
    point(site, lost, one)
    site.run("cell_v2", "update_cell", "--cell_uuid", two.uuid, "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    ran = check(site, "--cell", "c1", "--repair")
    assert (ran.code, owner_of(site, lost).gone) == (2, False)
    assert "c2, which may have it, does not answer" in ran.err


def test_a_hidden_row_that_nothing_moves_is_shown_again(site: Site) -> None:
    [one] = well(site, "c1")
    uuid = site.add_instance("c1")
    point(site, uuid, one)
    with site.database("c1").begin() as tx:
        tx.execute(update(rows).values(hidden=True))
    assert "is hidden in the cell that owns it" in texts(check(site))[0]
    assert check(site, "--repair").code == 0
    with site.database("c1").connect() as tx:
        assert not tx.scalar(select(rows.c.hidden))


def test_a_delete_of_just_now_is_left_alone(site: Site) -> None:
    [one] = well(site, "c1")
    uuid = site.add_instance("c1")
    point(site, uuid, one)
    for ago, found in ((timedelta(0), 0), (timedelta(hours=1), 1)):
        with site.database("c1").begin() as tx:
            tx.execute(update(rows).values(deleted_at=datetime.now(UTC) - ago))
        assert len(texts(check(site))) == found


def test_hosts_in_two_cells_in_the_wrong_one_and_in_cell0(site: Site) -> None:
    _, two = well(site, "c1", "c2")
    for cell, host in (("c1", "twin"), ("c2", "twin"), ("c1", "strayed"), ("c1", "new"), ("cell0", "zero")):
        site.add_host(cell, host)
    with site.database("api").begin() as tx:
        host_mappings.insert_missing(tx, two.id, ["strayed", "unheard"], NOW)
    ran = check(site)
    assert ran.code == 2
    found = set(texts(ran))
    assert found >= {
        "host twin reports to two cells: c1 and c2",
        "host strayed is mapped to cell c2 and reports to c1",
        "host new is not mapped: run cell_v2 discover_hosts",
        "host unheard is mapped to the cell, which has never heard of it",
        "host zero reports to cell0, which must have no hosts",
    }
    check(site, "--repair")
    with site.database("api").connect() as tx:
        assert [each.host for each in host_mappings.every(tx, two.id)] == []
        assert host_mappings.get(tx, "strayed").cell_id != two.id


def test_a_database_belongs_to_one_cell(site: Site) -> None:
    one, two = well(site, "c1", "c2")
    with site.database("c1").connect() as tx:
        assert identity.stored(tx) == one.uuid
    same = "sqlite:////" + site.url("c1").removeprefix("sqlite:///")  # another way to write it
    words = ("--transport-url", "memory://x", "--database_connection", same)
    made = site.run("cell_v2", "create_cell", *words)
    assert made.code == 2
    assert f"This is the database of cell c1 ({one.uuid})." in made.err
    moved = site.run("cell_v2", "update_cell", "--cell_uuid", two.uuid, "--database_connection", same)
    assert moved.code == 3

    with site.database("api").begin() as tx:
        tx.execute(update(mappings_table).where(mappings_table.c.id == two.id).values(database_connection=same))
    assert texts(check(site), "error") == ["this is the database of cell c1"]
    assert site.run("db", "sync").code == 1


def test_a_cell_that_something_moves_from_or_to_is_not_deleted(site: Site) -> None:
    one, two = well(site, "c1", "c2")
    move = Move(
        "m", "i", MoveKind.COLD, MovePhase.GOING, "req", "u", "p", NOW, source_cell=one.id, source_host="h",
        target_cell=two.id, active="i",
    )  # fmt: skip
    with site.database("api").begin() as tx:
        moves.insert_new(tx, move)
    for cell in (one, two):
        refused = site.run("cell_v2", "delete_cell", "--cell_uuid", cell.uuid, "--force")
        assert (refused.code, "on their way" in refused.err) == (5, True)
    with site.database("api").begin() as tx:
        tx.execute(moves_table.delete())
        host_moves.begin(tx, "h", source=one.id, target=two.id, now=NOW)
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", two.uuid).code == 5


def test_a_deleted_cells_database_is_free_again(site: Site) -> None:
    [one] = well(site, "c1")
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", one.uuid).code == 0
    words = ("--transport-url", "memory://x", "--database_connection", site.url("c1"))
    assert site.run("cell_v2", "create_cell", *words).code == 0
    with site.database("c1").connect() as tx:
        assert identity.stored(tx) not in (None, one.uuid)


def test_a_foreign_database_is_taken_over_only_when_told(site: Site) -> None:
    [one] = well(site, "c1")
    with site.database("api").begin() as tx:
        tx.execute(mappings_table.delete().where(mappings_table.c.id == one.id))
    words = ("--transport-url", "memory://x", "--database_connection", site.url("c1"), "--verbose")
    refused = site.run("cell_v2", "create_cell", *words)
    assert refused.code == 2
    assert "--take-over" in refused.err
    made = site.run("cell_v2", "create_cell", *words, "--take-over")
    assert made.code == 0
    with site.database("c1").connect() as tx:
        assert identity.stored(tx) == made.out.strip()


def test_list_cells_in_detail(site: Site) -> None:
    one, two = well(site, "c1", "c2")
    site.add_host("c1", "h1", up=False)
    site.run("cell_v2", "discover_hosts")
    point(site, site.add_instance("c1", host="h1"), one)
    site.run("cell_v2", "update_cell", "--cell_uuid", two.uuid, "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    site.run("cell_v2", "drain_cell", "--cell_uuid", two.uuid)
    ran = site.run("cell_v2", "list_cells", "--detail", "-f", "json")
    assert ran.code == 1
    by_name = {cell["name"]: cell for cell in ran.json}
    assert by_name["c1"]["database"]["reachable"]
    assert (by_name["c1"]["hosts"], by_name["c1"]["hosts_up"], by_name["c1"]["instances"]) == (1, 0, 1)
    assert abs(by_name["c1"]["clock_ahead_seconds"]) < 2
    assert by_name["c1"]["capacity"]["VCPU"] == {"used": 0, "capacity": 0}
    assert by_name["c2"]["silent"]
    assert by_name["c2"]["state"] == "drained"
    assert by_name["c2"]["hosts"] is None
    assert by_name["cell0"]["queue"] is None
    table = site.run("cell_v2", "list_cells", "--detail")
    assert "UNREACHABLE" in table.out
