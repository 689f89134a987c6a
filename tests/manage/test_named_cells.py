"""Cells named as people type them."""

from __future__ import annotations

import pytest

from tests.manage.conftest import Site


@pytest.mark.parametrize("words", [
    ("cell_v2", "update_cell", "--enable", "--cell_uuid"), ("cell_v2", "drain_cell", "--cell_uuid"),
    ("cell_v2", "list_hosts", "--cell_uuid"), ("cell_v2", "discover_hosts", "--cell_uuid"),
    ("cell_v2", "map_instances", "--cell_uuid"), ("cell_v2", "check", "--quick", "--cell"),
    ("db", "sync", "--cell_uuid"), ("db", "version", "--cell_uuid"), ("placement", "keep"),
    ("placement", "pin", "p", "--cell"), ("bench", "seed", "--instances", "1", "--cells"),
])  # fmt: skip
def test_a_cell_is_named_by_its_name_its_uuid_or_as_much_as_no_other_has(site: Site, words: tuple[str, ...]) -> None:
    cell, other = site.add_cell("kassel"), site.add_cell("köln-1")
    site.add_cell("köln-2")
    for text in ("kassel", cell.uuid, "ka", cell.uuid[:13]):
        ran = site.run(*words, text)
        assert "not found" not in ran.err, ran.err
        assert "No cell is called" not in ran.err
        assert ran.code in (0, 1, 2), (text, ran)
    unclear = site.run(*words, "köln")
    assert unclear.code != 0
    assert f"köln-1 ({other.uuid})" in unclear.err
    assert site.mapping(other.uuid) == other
    unknown = site.run(*words, "nowhere")
    assert unknown.code != 0
    assert "nowhere" in unknown.err


def test_a_whole_name_is_no_beginning(site: Site) -> None:
    """cell1 is not cell10."""
    one, ten = site.add_cell("cell1"), site.add_cell("cell10")
    assert site.run("cell_v2", "update_cell", "--cell_uuid", "cell1", "--weight", "7").code == 0
    assert (site.mapping(one.uuid).weight, site.mapping(ten.uuid).weight) == (7, ten.weight)


def test_a_cell_is_deleted_by_its_name(site: Site) -> None:
    site.add_cell("cell1")
    other = site.add_cell("cell2")
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", "cell").code == 255
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", "cell1").code == 0
    assert site.run("cell_v2", "delete_cell", "--cell_uuid", "cell1").code == 1
    assert site.mapping(other.uuid) == other


def test_a_name_that_is_not_there_is_not_the_beginning_of_a_uuid(site: Site) -> None:
    """c3 is no cell whose uuid begins with c3."""
    cell = site.add_cell("cell1")
    for text in (cell.uuid[:2], cell.uuid[:7]):
        assert site.run("cell_v2", "delete_cell", "--cell_uuid", text).code == 1
        assert site.run("cell_v2", "drain_cell", "--cell_uuid", text).code != 0
    assert site.mapping(cell.uuid) == cell
