"""`placement`: projects and their cells, and explaining where a server landed."""

from __future__ import annotations

from mapping_db import cell_mappings, placement_notes, project_cells
from mapping_db.cell_mappings import CELL0_UUID
from tests.manage.conftest import NOW, Site


def rules(site: Site) -> list[tuple[str, str, str]]:
    listed = site.run("placement", "list", "-f", "json").json
    return [(each["rule"], each["project"], each["cell"]) for each in listed]


def test_a_project_is_pinned_and_let_go(site: Site) -> None:
    one, two = site.add_cell("c1"), site.add_cell("c2")
    assert site.run("placement", "pin", "p", "--cell", "c1", "--cell", two.uuid).code == 0
    assert rules(site) == [("pinned", "p", "c1"), ("pinned", "p", "c2")]
    assert site.run("placement", "pin", "p", "--cell", "c1").code == 0
    assert rules(site) == [("pinned", "p", "c1")]
    assert site.run("placement", "pin", "p", "--cell", "c3").code == 1
    assert rules(site) == [("pinned", "p", "c1")]

    kept = site.run("cell_v2", "delete_cell", "--cell_uuid", one.uuid)
    assert (kept.code, "pinned" in kept.err) == (6, True)
    assert [site.run("placement", "unpin", "p").code for _ in range(2)] == [0, 0]
    assert rules(site) == []
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", one.uuid).code == 0


def test_a_cell_is_kept_for_projects(site: Site) -> None:
    one = site.add_cell("c1")
    assert site.run("placement", "keep", "c1", "--project", "p", "--project", "q").code == 0
    assert site.mapping(one.uuid).reserved
    assert rules(site) == [("kept", "p", "c1"), ("kept", "q", "c1")]
    assert site.run("placement", "release", "c1", "--project", "q").code == 0
    assert rules(site) == [("kept", "p", "c1")]
    assert site.run("placement", "release", "c1").code == 0
    assert (rules(site), site.mapping(one.uuid).reserved) == ([], False)
    assert site.run("placement", "keep", "nobody").code == 1


def test_an_id_of_a_project_that_is_too_long_is_2(site: Site) -> None:
    site.add_cell("c1")
    assert site.run("placement", "pin", "p" * 256, "--cell", "c1").code == 2
    assert site.run("placement", "keep", "c1", "--project", "p" * 256).code == 2
    assert rules(site) == []


def test_a_name_that_two_cells_have_is_refused(site: Site) -> None:
    first, _ = site.add_cell("c1"), site.add_cell("c2")
    assert site.run("cell_v2", "update_cell", "--cell_uuid", first.uuid, "--name", "c2").code == 0
    ran = site.run("placement", "pin", "p", "--cell", "c2")
    assert (ran.code, "Several cells are called c2" in ran.err) == (1, True)


def test_changes_reach_those_who_follow_the_topology(site: Site) -> None:
    site.add_cell("c1")
    versions: list[int] = []
    for words in (("pin", "p", "--cell", "c1"), ("keep", "c1", "--project", "p"), ("release", "c1"), ("unpin", "p")):
        site.run("placement", *words)
        with site.database("api").connect() as tx:
            versions.append(cell_mappings.topology_version(tx))
            project_cells.every(tx)
    assert versions == sorted(set(versions))


def test_weights_and_reservation_by_update_cell(site: Site) -> None:
    one = site.add_cell("c1", weight="40")
    assert site.mapping(one.uuid).weight == 40

    def update(*words: str) -> int:
        return site.run("cell_v2", "update_cell", "--cell_uuid", one.uuid, *words).code

    assert update("--weight", "101") == 2
    assert update("--weight", "7", "--reserved") == 0
    assert (site.mapping(one.uuid).weight, site.mapping(one.uuid).reserved) == (7, True)
    assert update("--reserved", "--not-reserved") == 4
    assert update("--not-reserved") == 0
    assert (site.mapping(one.uuid).weight, site.mapping(one.uuid).reserved) == (7, False)
    assert site.run("cell_v2", "drain_cell", "--cell_uuid", one.uuid).code == 0
    assert site.mapping(one.uuid).weight == 0
    assert site.run("cell_v2", "drain_cell", "--cell_uuid", "nobody").code == 1
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    assert site.run("cell_v2", "drain_cell", "--cell_uuid", CELL0_UUID).code == 5
    assert site.run("cell_v2", "update_cell", "--cell_uuid", CELL0_UUID, "--weight", "0").code == 5
    assert site.run("cell_v2", "create_cell", "--transport-url", "memory://x", "--database_connection", "sqlite:///x",
                    "--weight", "-1").code == 1  # fmt: skip


def test_a_note_is_told_to_people_and_programs(site: Site) -> None:
    host = {"cell": "c1", "host": "h1", "node": "n1", "weight": 1.5, "weighers": {"RAMWeigher": [2048.0, 1.5]}}
    note = {
        "request_id": "req-1", "at": "2026-01-01", "asked": {"flavor": "small"}, "chosen": host,
        "runners_up": [{**host, "host": "h2"}], "excluded": [["ComputeFilter", "is down", 3]],
        "cells": {"c1": {"weight": 100, "hosts": 2}, "c2": "is in cell c2, which is drained"}, "drawn": None,
    }  # fmt: skip
    with site.database("api").begin() as tx:
        placement_notes.put(tx, {"s": note}, NOW)
        placement_notes.put(tx, {"s": note, "t": {**note, "chosen": host}}, NOW)
    reported = site.run("placement", "explain", "s")
    assert reported.code == 0
    for words in ("h1 (n1) in cell c1: weight 1.5", "RAMWeigher +1.5 (of 2048)", "3 ComputeFilter: is down",
                  "c2: a host there is in cell c2, which is drained"):  # fmt: skip
        assert words in reported.out
    assert site.run("placement", "explain", "s", "-f", "json").json["chosen"] == host
    assert site.run("placement", "explain", "nobody").code == 1
