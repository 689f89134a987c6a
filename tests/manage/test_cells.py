"""cell_v2: cells, with nova's exit codes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cell_service.db import compute_nodes
from mapping_db import cell_mappings, instance_mappings
from mapping_db.cell_mappings import CELL0_UUID
from tests.manage.conftest import Ran, Site
from tools.manage import cells
from tools.manage.cloud import open_cloud
from tools.manage.settings import read_settings


def create(site: Site, *words: str) -> Ran:
    return site.run("cell_v2", "create_cell", *words)


def test_a_cell_has_what_was_given_and_what_the_configuration_says(site: Site) -> None:
    site.configure(DEFAULT__transport_url="memory://own", database__connection=site.url("own"))
    made = create(site, "--name", "c1", "--verbose")

    assert made.code == 0
    cell = site.mapping(made.out.strip())
    assert (cell.name, cell.transport_url, cell.database_connection, cell.disabled) == (
        "c1", "memory://own", site.url("own"), False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--transport-url", "memory://x"),
        ("--database_connection", "sqlite:///x"),
        ("--transport-url", "memory://x", "--database_connection", "no url"),
        ("--transport-url", "memory://x", "--database_connection", "oracle://a:geheim@h/x"),
        ("--transport-url", "memory://x", "--database_connection", "mysql://a:geheim@h:port/x"),
        ("--transport-url", "carrier-pigeon://x", "--database_connection", "sqlite:///x"),
        ("--transport-url", "rabbit://u:geheim@h:port/", "--database_connection", "sqlite:///x"),
        ("--transport-url", "rabbit://{user}:geheim@h/", "--database_connection", "sqlite:///x"),
        ("--transport-url", "memory://x", "--database_connection", "mysql://{username}:geheim@h/{cell}"),
    ],
)
def test_a_url_that_is_missing_or_wrong_is_one_line_and_1(site: Site, words: tuple[str, ...]) -> None:
    made = create(site, *words)
    assert made.code == 1
    assert made.out == ""
    assert len(made.err.splitlines()) == 1
    assert "geheim" not in made.err


def test_a_variable_that_there_is_not_changes_nothing(site: Site) -> None:
    cell = site.add_cell("c1")
    for option in ("--transport-url", "--database_connection"):
        changed = site.run("cell_v2", "update_cell", "--cell_uuid", cell.uuid, option, "rabbit://{user}@h/")
        assert changed.code == 2
        assert "{user}" in changed.err
    assert site.mapping(cell.uuid) == cell
    assert site.run("cell_v2", "map_cell0", "--database_connection", "mysql://{user}@h/x").code == 1


def test_a_variable_that_the_own_url_lacks_is_warned_of(site: Site) -> None:
    site.configure(DEFAULT__transport_url="rabbit://top/")
    made = create(site, "--transport-url", "rabbit://{username}@h/", "--database_connection", "sqlite:///x")
    assert made.code == 0
    assert "Warning: " in made.err
    assert "{username}" in made.err


def test_two_cells_share_neither_queue_nor_database(site: Site) -> None:
    site.add_cell("c1")
    assert create(site, "--transport-url", "memory://c1", "--database_connection", "sqlite:///x").code == 2
    assert create(site, "--transport-url", "memory://x", "--database_connection", site.url("c1")).code == 2
    assert create(site, "--transport-url", "memory://x", "--database_connection", "sqlite:///x").code == 0


def test_a_template_that_means_the_same_is_the_same(site: Site) -> None:
    own = f"sqlite:///{site.directory / 'own'}"
    site.configure(DEFAULT__transport_url="rabbit://u:p@top/nova", database__connection=own)
    assert create(site, "--transport-url", "memory://a", "--database_connection", "{scheme}:///{path}").code == 0
    assert create(site, "--transport-url", "memory://b", "--database_connection", own).code == 2
    words = ("--transport-url", "rabbit://{username}:{password}@h/nova")
    assert create(site, *words, "--database_connection", "sqlite:///x").code == 0
    words = ("--transport-url", "rabbit://u:p@h/nova")
    assert create(site, *words, "--database_connection", "sqlite:///y").code == 2


def test_of_many_who_create_the_same_cell_at_once_one_does(site: Site) -> None:
    settings = read_settings([str(site.directory / "nova.conf")])

    def attempt(_: int) -> bool:
        with open_cloud(settings) as cloud:
            try:
                cells.add_cell(cloud, settings, "c", "memory://c", "sqlite:///c")
            except cells.UrlTaken:
                return False
            return True

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(attempt, range(6))) == [False] * 5 + [True]


@pytest.mark.parametrize("name", ["n" * 256, "a\0b", "\udcff"])
def test_a_name_that_cannot_be_stored_is_one_line(site: Site, name: str) -> None:
    words = ("--transport-url", "memory://x", "--database_connection", "sqlite:///x")
    made = create(site, "--name", name, *words)
    assert (made.code, len(made.err.splitlines())) == (1, 1)
    cell = site.add_cell("c1")
    changed = site.run("cell_v2", "update_cell", "--cell_uuid", cell.uuid, "--name", name)
    assert (changed.code, len(changed.err.splitlines())) == (2, 1)
    assert site.mapping(cell.uuid).name == "c1"
    assert create(site, "--name", "n" * 255, *words).code == 0


def test_names_may_be_null_repeated_or_odd(site: Site) -> None:
    for number, name in enumerate(("twin", "twin", "naïve | “cell” 雲", "tab\tand\nline", "")):
        assert create(site, "--name", name, "--transport-url", f"memory://{number}", "--database_connection",
                      f"sqlite:///{number}").code == 0  # fmt: skip
    assert create(site, "--transport-url", "memory://x", "--database_connection", "sqlite:///x").code == 0

    table = site.run("cell_v2", "list_cells")
    assert table.code == 0
    assert len(table.out.splitlines()) == 4 + 6
    assert "tab\\tand\\nline" in table.out
    listed = site.run("cell_v2", "list_cells", "-f", "json").json
    assert [cell["name"] for cell in listed] == [None, None, "naïve | “cell” 雲", "tab\tand\nline", "twin", "twin"]


def test_passwords_are_shown_only_on_demand(site: Site) -> None:
    site.configure(DEFAULT__transport_url="rabbit://top:geheim0@h/", database__connection="mysql://top:geheim9@h/x")
    create(site, "--name", "c1", "--transport-url", "rabbit://u:geheim1@h1:5672,v:geheim2@h2/v",
           "--database_connection", "mysql+pymysql://u:geheim3@h/nova?charset=utf8")  # fmt: skip
    create(site, "--name", "c2", "--transport-url", "rabbit://{username}:{password}@h3/v",
           "--database_connection", "{scheme}://{username}:{password}@h3/nova")  # fmt: skip

    masked = site.run("cell_v2", "list_cells", "--long")
    assert "geheim" not in masked.out + masked.err
    assert "rabbit://u:****@h1:5672,v:****@h2/v" in masked.out
    assert "mysql+pymysql://u:****@h/nova?charset=utf8" in masked.out
    assert "rabbit://{username}:{password}@h3/v" in masked.out
    assert "geheim" not in site.run("cell_v2", "list_cells", "-f", "json").out
    shown = site.run("cell_v2", "list_cells", "--verbose")
    assert all(f"geheim{number}" in shown.out for number in (1, 2, 3))


def test_cell0_is_beside_the_own_database(site: Site) -> None:
    site.configure(database__connection="mysql+pymysql://u:p@h/nova")
    assert [site.run("cell_v2", "map_cell0").code for _ in range(2)] == [0, 0]
    cell0 = site.mapping(CELL0_UUID)
    assert (cell0.name, cell0.transport_url) == ("cell0", "none:///")
    assert cell0.database_connection == "mysql+pymysql://u:p@h/nova_cell0"


def test_cell0_is_where_it_is_said(site: Site) -> None:
    assert site.run("cell_v2", "map_cell0").code == 1
    assert site.run("cell_v2", "map_cell0", "--database_connection", "sqlite:///zero").code == 0
    assert site.mapping(CELL0_UUID).database_connection == "sqlite:///zero"


def update(site: Site, cell: str, *words: str) -> int:
    return site.run("cell_v2", "update_cell", "--cell_uuid", cell, *words).code


def test_an_update_changes_only_what_is_given(site: Site) -> None:
    site.configure(DEFAULT__transport_url="memory://own", database__connection="sqlite:///own")
    cell = site.add_cell("c1")

    assert update(site, cell.uuid, "--disable") == 0
    changed = site.mapping(cell.uuid)
    assert changed.disabled
    assert (changed.transport_url, changed.database_connection) == (cell.transport_url, cell.database_connection)
    assert update(site, cell.uuid, "--enable", "--name", "new", "--transport-url", "memory://new") == 0
    changed = site.mapping(cell.uuid)
    assert (changed.name, changed.transport_url, changed.disabled) == ("new", "memory://new", False)


def test_an_update_with_nothing_given_takes_the_urls_of_the_configuration(site: Site) -> None:
    cell = site.add_cell("c1")
    assert update(site, cell.uuid) == 2
    site.configure(DEFAULT__transport_url="memory://own", database__connection="sqlite:///own")
    assert update(site, cell.uuid) == 0
    changed = site.mapping(cell.uuid)
    assert (changed.transport_url, changed.database_connection) == ("memory://own", "sqlite:///own")


def test_exit_codes_of_update_cell(site: Site) -> None:
    one, two = site.add_cell("c1"), site.add_cell("c2")
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))

    assert update(site, "00000000-1111-0000-0000-000000000000", "--name", "x") == 1
    assert update(site, one.uuid, "--transport-url", "nonsense") == 2
    assert update(site, one.uuid, "--transport-url", "memory://c2") == 3
    assert update(site, one.uuid, "--transport-url", "memory://c2", "--enable", "--disable") == 3
    assert update(site, one.uuid, "--name", "other", "--enable", "--disable") == 4
    assert update(site, CELL0_UUID, "--disable") == 5
    assert update(site, CELL0_UUID, "--enable") == 5
    assert site.mapping(one.uuid) == one
    assert site.mapping(two.uuid) == two


def test_every_change_moves_the_topology_on(site: Site) -> None:
    def version() -> int:
        with site.database("api").connect() as tx:
            return cell_mappings.topology_version(tx)

    report = [version()]
    cell = site.add_cell("c1")
    report.append(version())
    update(site, cell.uuid, "--disable")
    report.append(version())
    site.run("cell_v2", "delete_cell", "--cell_uuid", cell.uuid)
    report.append(version())
    assert report == sorted(set(report))


def delete(site: Site, cell: str, *words: str) -> int:
    return site.run("cell_v2", "delete_cell", "--cell_uuid", cell, *words).code


def test_an_empty_cell_is_deleted_once(site: Site) -> None:
    cell = site.add_cell("c1")
    assert [delete(site, cell.uuid) for _ in range(2)] == [0, 1]


def test_a_cell_with_hosts_is_deleted_by_force_and_they_can_be_found_again(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_host("c1", "h1")
    site.run("cell_v2", "discover_hosts")

    assert delete(site, cell.uuid) == 2
    assert delete(site, cell.uuid, "--force") == 0
    with site.database("c1").connect() as tx:
        assert [node.mapped for node in compute_nodes.list_all(tx)] == [False]


def test_a_cell_with_living_instances_is_never_deleted(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_instance("c1")
    site.add_instance("c1", deleted=True)
    site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid)

    assert delete(site, cell.uuid) == 3
    assert delete(site, cell.uuid, "--force") == 3
    assert site.mapping(cell.uuid) == cell


def test_a_cell_with_dead_instances_is_deleted_by_force(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_instance("c1", deleted=True)
    site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid)
    freshly_dead = site.add_instance("c1", deleted=True)
    with site.database("api").begin() as tx:  # the mapping has not been told yet
        known = instance_mappings.of_cell(tx, cell.id, limit=1)[0]
        instance_mappings.insert_new(
            tx, [instance_mappings.InstanceMapping(freshly_dead, "p", "u", known.created_at, "n", 1, 1, cell.id)]
        )

    assert delete(site, cell.uuid) == 4
    assert delete(site, cell.uuid, "--force") == 0
    with site.database("api").connect() as tx:
        assert instance_mappings.counts(tx) == {}


def test_a_cell_that_lost_its_rows_keeps_its_mappings(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_instance("c1")
    site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid)
    update(site, cell.uuid, "--database_connection", site.url("empty"))
    site.run("db", "sync")
    assert delete(site, cell.uuid, "--force") == 3


def test_a_silent_cell_with_instances_is_not_deleted(site: Site) -> None:
    cell = site.add_cell("c1")
    site.add_instance("c1")
    site.run("cell_v2", "map_instances", "--cell_uuid", cell.uuid)
    update(site, cell.uuid, "--database_connection", "sqlite:////nowhere/at/all")
    assert delete(site, cell.uuid, "--force") == 3


def test_json_has_nothing_beside_it(site: Site) -> None:
    cell = site.add_cell("c1")
    made = site.run("cell_v2", "update_cell", "--cell_uuid", cell.uuid, "--name", "x", "-f", "json")
    assert made.out == ""
    assert json.loads(site.run("-f", "json", "cell_v2", "list_hosts").out) == []
