"""What destroys is confirmed by its name, or by --yes, and can be tried without doing it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
from sqlalchemy import MetaData, select

from cell_service.db import schema, services
from mapping_db import schema as global_schema
from tests.manage.conftest import NOW, Site
from tests.manage.test_archive import add_server
from tools.manage.main import COMMANDS, NOT_CONFIRMED

PURGE = ("db", "purge", "--all", "--all-cells")
ARCHIVE = ("db", "archive_deleted_rows", "--all-cells", "--until-complete", "--purge")
DELETE = ("cell_v2", "delete_cell", "--cell_uuid", "c1", "--force")
EVACUATE = ("cell_v2", "evacuate_host", "--host", "h1", "--force-down")
UNSEED = ("bench", "unseed", "--cells", "c1")
DANGEROUS = {"archive": ARCHIVE, "purge": PURGE, "delete": DELETE, "evacuate": EVACUATE, "unseed": UNSEED}
NAMES = {"archive": "all-cells", "purge": "all-cells", "delete": "c1", "evacuate": "h1", "unseed": "c1"}
OURS = {"evacuate", "unseed"}
"""Nova has no such commands."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def prepared(site: Site) -> Callable[[str], Site]:
    def prepare(which: str) -> Site:
        site.add_cell("c1")
        site.add_host("c1", "h1")
        site.run("cell_v2", "discover_hosts")
        if which in ("archive", "purge"):
            for _ in range(2):
                add_server(site, "c1")
            assert site.run("db", "archive_deleted_rows", "--all-cells").code == 1
            add_server(site, "c1")
        elif which == "delete":
            site.add_instance("c1", deleted=True)
            site.run("cell_v2", "map_instances", "--cell_uuid", "c1")
        elif which == "unseed":
            assert site.run("bench", "seed", "--instances", "5").code == 0
        else:
            site.add_instance("c1", host="h1")
            with site.database("c1").begin() as tx:
                service = services.by_host(tx, "h1", services.COMPUTE)
                services.change(tx, service.uuid, now=NOW, forced_down=False)
        return site

    return prepare


def everything(site: Site) -> dict[str, list[tuple[object, ...]]]:
    """All rows of both databases."""
    found = {}
    metadata: MetaData
    for name, metadata in (("api", global_schema.metadata), ("c1", schema.metadata)):
        with site.database(name).connect() as tx:
            for table in metadata.sorted_tables:
                rows = tx.execute(select(table).order_by(*table.primary_key.columns)).all()
                found[f"{name}.{table.name}"] = [tuple(row) for row in rows]
    return found


@pytest.mark.parametrize("which", DANGEROUS)
@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_a_dry_run_changes_nothing(prepared: Callable[[str], Site], which: str, more: tuple[str, ...]) -> None:
    site = prepared(which)
    before = everything(site)
    ran = site.run(*DANGEROUS[which], "--dry-run", *more)
    assert everything(site) == before
    assert ran.out, ran.err
    assert ran.code == (1 if which == "archive" else 0)


def test_a_dry_run_counts_what_is_then_done(prepared: Callable[[str], Site]) -> None:
    site = prepared("archive")
    [row, globally] = site.run(*ARCHIVE, "--dry-run", "-f", "json").json
    assert row == {"cell_name": "c1", "servers": 1, "rows": 6, "archived_rows": 12}
    assert globally["rows"] == 0  # no mapping is left of a server that is gone
    planned = site.run(*PURGE, "--dry-run", "-f", "json").json
    assert sum(each["rows"] for each in planned) == 12
    assert site.run(*PURGE, "-f", "json").json == planned


@pytest.mark.parametrize(
    ("words", "rows"), [(("--before", "2026-03-01"), 0), (("--before", "2026-03-02"), 12), (("--all",), 12)]
)
def test_a_dry_purge_obeys_dates(prepared: Callable[[str], Site], words: tuple[str, ...], rows: int) -> None:
    ran = prepared("purge").run("db", "purge", "--all-cells", *words, "--dry-run", "-f", "json")
    assert (ran.code, sum(each["rows"] for each in ran.json)) == (0 if rows else 3, rows)


def test_a_dry_archive_obeys_max_rows(prepared: Callable[[str], Site]) -> None:
    site = prepared("archive")
    for _ in range(2):
        add_server(site, "c1")
    planned = site.run("db", "archive_deleted_rows", "--all-cells", "--max_rows", "13", "--dry-run", "-f", "json").json
    assert planned[0]["servers"] == 2


@pytest.mark.parametrize("which", DANGEROUS)
def test_without_a_terminal_only_what_nova_has_goes_on(prepared: Callable[[str], Site], which: str) -> None:
    site = prepared(which)
    before = everything(site)
    if which == "evacuate":  # only refused here: nobody serves the queue that would build servers
        ran = site.run(*DANGEROUS[which])
        assert (ran.code, "--yes" in ran.err, everything(site) == before) == (NOT_CONFIRMED, True, True)
        return
    ran = site.run(*DANGEROUS[which])
    assert (ran.code == NOT_CONFIRMED) == (which in OURS)
    assert (everything(site) == before) == (which in OURS)


@pytest.mark.parametrize("which", DANGEROUS)
@pytest.mark.parametrize("typed", ["", "\n", "yes\n", "c2\n"])
def test_another_name_changes_nothing(
    prepared: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch, which: str, typed: str
) -> None:
    site = prepared(which)
    before = everything(site)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    ran = site.run(*DANGEROUS[which])
    assert (ran.code, everything(site) == before) == (NOT_CONFIRMED, True)
    assert f"Type {NAMES[which]} to go on: " in ran.err


@pytest.mark.parametrize("which", ["archive", "purge", "delete", "unseed"])
@pytest.mark.parametrize("confirmed", ["name", "option"])
def test_the_name_or_yes_goes_on(
    prepared: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch, which: str, confirmed: str
) -> None:
    site = prepared(which)
    before = everything(site)
    monkeypatch.setattr(sys, "stdin", Terminal(f"{NAMES[which]}\n" if confirmed == "name" else ""))
    ran = site.run(*DANGEROUS[which], *(("--yes",) if confirmed == "option" else ()))
    assert ran.code == (1 if which == "archive" else 0)
    assert everything(site) != before


def test_what_asks_can_be_tried() -> None:
    options = {each.name: {name for given in each.arguments for name in given.names} for each in COMMANDS}
    asking = {name for name, has in options.items() if "--yes" in has}
    assert {" ".join(words[:2]) for words in DANGEROUS.values()} <= asking
    assert [name for name in asking if "--dry-run" not in options[name]] == []
