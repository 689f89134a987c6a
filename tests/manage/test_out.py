"""How results are printed, by format, columns, order, width and terminal."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml

from tests.manage.conftest import Site
from tools.manage.out import NoSuchColumn, Out, Shape
from tools.manage.tables import Column, box

UUID = "0b8e7b52-95b1-4f2c-9a55-9f7f0a3a7c11"
COLUMNS = ("Name", "UUID", Column("Transport URL", long=True), Column("State", state=True), "Weight")
ROWS = [
    ("b", UUID, "rabbit://b", "enabled", 100),
    ("a", UUID, "rabbit://a", "UNREACHABLE", 7),
    (None, UUID, "", "", None),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(shape: Shape, stdout: io.StringIO | None = None) -> str:
    out = Out(shape, stdout=stdout or io.StringIO(), stderr=io.StringIO())
    out.table(COLUMNS, ROWS)
    return out.stdout.getvalue()  # type: ignore[attr-defined, no-any-return]


def heads(text: str) -> list[str]:
    return [word.strip() for word in text.splitlines()[1].strip("|").split("|")]


def test_tables_are_short_and_programs_have_everything() -> None:
    assert heads(printed(Shape())) == ["Name", "UUID", "State", "Weight"]
    assert heads(printed(Shape(long=True))) == ["Name", "UUID", "Transport URL", "State", "Weight"]
    keys = ["name", "uuid", "transport_url", "state", "weight"]
    for read in (json.loads(printed(Shape("json"))), yaml.safe_load(printed(Shape("yaml")))):
        assert [list(row) for row in read] == [keys] * 3
        assert [row["weight"] for row in read] == [100, 7, None]
    assert list(csv.reader(io.StringIO(printed(Shape("csv")))))[:2] == [
        keys, ["b", UUID, "rabbit://b", "enabled", "100"]]  # fmt: skip


def test_columns_are_chosen_by_title_or_key() -> None:
    assert printed(Shape("value", columns=("transport_url", "NAME"))).splitlines()[:2] == [
        "b rabbit://b",
        "a rabbit://a",
    ]
    assert json.loads(printed(Shape("json", columns=("Transport URL",))))[0] == {"transport_url": "rabbit://b"}
    assert heads(printed(Shape(columns=("Transport URL",)))) == ["Transport URL"]
    with pytest.raises(NoSuchColumn, match=r"colour.*transport_url"):
        printed(Shape(columns=("colour",)))


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        (Shape("value", ("weight",), sort_columns=("weight",)), ["7", "100", ""]),
        (Shape("value", ("weight",), sort_columns=("weight",), descending=True), ["", "100", "7"]),
        (Shape("value", ("name",), sort_columns=("uuid", "Name")), ["a", "b", ""]),
        (Shape("value", ("name",), sort_columns=("nothing",)), ["b", "a", ""]),
    ],
)
def test_rows_are_sorted_as_the_openstack_client_does(shape: Shape, order: list[str]) -> None:
    assert printed(shape).splitlines() == order


def test_a_row_is_a_list_of_keys_on_demand() -> None:
    blocks = printed(Shape(vertical=True)).split("\n\n")
    assert len(blocks) == 3
    assert blocks[0].splitlines() == [
        "Name:          b", f"UUID:          {UUID}", "Transport URL: rabbit://b", "State:         enabled",
        "Weight:        100"]  # fmt: skip


def test_states_have_colours_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\033[31mUNREACHABLE" in printed(Shape(), Terminal())
    assert "\033[" not in printed(Shape())
    assert "\033[" not in printed(Shape("json"), Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in printed(Shape(), Terminal())


@pytest.mark.parametrize("width", [40, 60, 80])
def test_tables_fit(width: int) -> None:
    text = "a reason of many words that go on, and a_word_that_is_longer_than_any_column_could_ever_be_at_this_width"
    drawn = box(("Name", "UUID", "Trouble"), [("雲" * 9, UUID, text)], width=width)
    assert {len(line) + line.count("雲") for line in drawn.splitlines()} == {width}, drawn
    assert UUID[:8] in drawn
    assert UUID not in drawn


def test_what_fits_stays_whole() -> None:
    assert UUID in box(("Name", "UUID"), [("n", UUID)], width=80)


def test_every_list_fits_80_columns(site: Site) -> None:
    site.run("cell_v2", "map_cell0", "--database_connection", site.url("cell0"))
    site.run("db", "sync")
    for name in ("a-cell-with-a-long-name", "c2"):
        site.add_cell(name)
        site.add_host(name, f"compute-{name}.dc1.example.org")
    broken = ("--transport-url", "memory://x", "--database_connection", "mysql://u:p@127.0.0.1:1/x")
    site.run("cell_v2", "create_cell", "--name", "gone", *broken)
    site.run("cell_v2", "discover_hosts")
    site.run("placement", "pin", "7" * 32, "--cell", "c2")
    for words in (("cell_v2", "list_cells"), ("cell_v2", "list_cells", "--detail"), ("cell_v2", "list_hosts"),
                  ("db", "version"), ("placement", "list")):  # fmt: skip
        lines = [line for line in site.run(*words).out.splitlines() if line.startswith(("+", "|"))]
        assert len(lines) > 4, words
        assert max(map(len, lines)) <= 80, words


def test_one_value_comes_in_every_format(site: Site) -> None:
    newest = site.run("api_db", "version").out.strip()
    assert site.run("api_db", "version", "-f", "value").out.splitlines() == [newest, newest]
    assert site.run("api_db", "version", "-f", "csv").out.splitlines() == [
        '"version","newest"',
        f'"{newest}","{newest}"',
    ]
    assert site.run("api_db", "version", "-f", "value", "-c", "newest").out.splitlines() == [newest]
    assert site.run("api_db", "version", "--vertical").out.splitlines() == [f"version: {newest}", f"newest:  {newest}"]
    ran = site.run("api_db", "version", "-c", "colour")
    assert (ran.code, ran.out, "colour" in ran.err) == (255, "", True)
