"""Parsing, printing and failing, the same for every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cell_service import logs
from tests.manage.conftest import Site
from tools.manage.main import COMMANDS, main
from tools.manage.settings import read_settings
from tools.manage.tables import box
from tools.manage.urls import masked


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_helps_itself(site: Site, command: object) -> None:
    name = command.name  # type: ignore[attr-defined]
    ran = site.run(*name.split(), "--help")
    assert ran.code == 0
    assert re.search(r"\b0 ", " ".join(ran.out.split())), "the exit codes are in the help"


@pytest.mark.parametrize("words", [(), ("cell_v2",), ("--debug",)])
def test_a_line_without_a_command_is_2_and_lists_what_there_is(site: Site, words: tuple[str, ...]) -> None:
    ran = site.run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: polycell-manage" in ran.err


@pytest.mark.parametrize("words", [("cell_v2", "nonsense"), ("cell_v2", "create_cell", "--nonsense"),
                                   ("cell_v2", "delete_cell"), ("cell_v2", "create_cell", "--tran", "x")])  # fmt: skip
def test_a_line_that_cannot_be_understood_is_2(site: Site, words: tuple[str, ...]) -> None:
    assert site.run(*words).code == 2


def test_options_of_all_commands_may_stand_anywhere(site: Site) -> None:
    site.add_cell("c1")
    for words in (("-f", "json", "cell_v2", "list_cells"), ("cell_v2", "-f", "json", "list_cells"),
                  ("cell_v2", "list_cells", "--format=json")):  # fmt: skip
        assert site.run(*words).json[0]["name"] == "c1"


def test_options_may_be_spelled_with_either_dash(site: Site) -> None:
    for number, words in enumerate((("--transport_url", "memory://a", "--database-connection", "sqlite:///a"),
                                    ("--transport-url=memory://b", "--database_connection=sqlite:///b"))):  # fmt: skip
        assert site.run("cell_v2", "create_cell", "--name", str(number), *words).code == 0


def test_the_environment_names_the_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_cell("c1")
    other = site.directory / "other.conf"
    other.write_text("[database]\nconnection = sqlite:///later\n", encoding="utf-8")
    monkeypatch.setenv("POLYCELL_CONFIG_FILES", f"{site.directory / 'nova.conf'}:{other}")
    assert read_settings(()).database == "sqlite:///later"
    assert read_settings((str(other),)).api_database == ""
    assert main(["cell_v2", "list_cells", "-f", "json"]) == 0


def test_no_configuration_file_is_said_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POLYCELL_CONFIG_FILES", raising=False)
    nowhere = read_settings((), (str(tmp_path / "nova.conf"),))
    assert str(nowhere.lacks("[api_database] connection")).startswith(
        "no configuration file was found: /etc/nova/nova.conf"
    )
    (tmp_path / "nova.conf").write_text("[DEFAULT]\n", encoding="utf-8")
    empty = read_settings((), (str(tmp_path / "nova.conf"),))
    assert str(empty.lacks("[database] connection")) == f"[database] connection is not set in {tmp_path / 'nova.conf'}"


@pytest.mark.parametrize(("words", "code"), [(("db", "archive_deleted_rows"), 3), (("db", "purge", "--all"), 4)])
def test_commands_that_go_without_a_global_database_name_the_file(
    site: Site, words: tuple[str, ...], code: int
) -> None:
    site.configure(api_database__connection="")
    ran = site.run(*words)
    assert (ran.code, ran.err) == (code, f"[api_database] connection is not set in {site.directory / 'nova.conf'}\n")


def test_later_configuration_files_win(site: Site) -> None:
    other = site.directory / "other.conf"
    other.write_text("[database]\nconnection = sqlite:///later\n", encoding="utf-8")
    site.configure(database__connection="sqlite:///earlier")
    site.run("cell_v2", "map_cell0", "--config-file", str(other))
    assert "sqlite:///later_cell0" in site.run("cell_v2", "list_cells", "--long").out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"api_database__connection": "mysql+pymysql://nova:geheim@127.0.0.1:1/nova_api"},
            "the connection is refused: no server listens there",
        ),
        ({"api_database__connection": "mysql://nova:geheim@h:port/x"}, "[api_database] connection"),
        ({"api_database__connection": "geheim"}, "[api_database] connection"),
        ({"api_database__max_pool_size": "many"}, "max_pool_size"),
        ({"cache__enabled": "true", "cache__backend": "geheim.cache"}, "[cache] backend"),
    ],
)
def test_a_wrong_configuration_is_one_line_without_its_passwords(
    site: Site, options: dict[str, str], said: str
) -> None:
    site.configure(**options)
    ran = site.run("cell_v2", "list_cells")
    assert ran.code == 255
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert said in line
    assert "nova:geheim" not in line


def test_a_configuration_file_that_is_not_there_is_one_line(site: Site) -> None:
    ran = site.run("cell_v2", "list_cells", "--config-file", str(site.directory / "none.conf"))
    assert ran.code == 255
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/nova.db", "sqlite:////var/lib/nova.db"),
        ("none:///", "none:///"),
        ("", ""),
        ("rabbit://u:p@h:1/v", "rabbit://u:****@h:1/v"),
        ("rabbit://u@h/v", "rabbit://u@h/v"),
        ("rabbit://u:@h/v", "rabbit://u:@h/v"),
        ("rabbit://u:p%40%2F@h/v", "rabbit://u:****@h/v"),
        ("rabbit://u:p@h1,v:q@h2:5/v?ssl=1", "rabbit://u:****@h1,v:****@h2:5/v?ssl=1"),
        ("mysql://u:p/a@ss@h/db", "mysql://u:****@h/db"),
        ("postgresql://u:{password}@h/db", "postgresql://u:{password}@h/db"),
        ("postgresql://h/db?user=u&password=p&x=1", "postgresql://h/db?user=u&password=****&x=1"),
        ("mysql://u:{p}w@h/db", "mysql://u:****@h/db"),
    ],
)
def test_urls_are_shown_without_passwords(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("rabbit://u:p@h1,v:q@h2/nova is down", "rabbit://u:***@h1,v:***@h2/nova is down"),
        ("rabbit://u:p@h1:5672,v:q@h2:5672,w:r@[::1]:1/", "rabbit://u:***@h1:5672,v:***@h2:5672,w:***@[::1]:1/"),
        ("hosts h1:1, h2:2", "hosts h1:1, h2:2"),
    ],
)
def test_a_log_line_hides_the_passwords_of_all_hosts(line: str, shown: str) -> None:
    assert logs.masked(line) == shown


def test_wide_letters_keep_a_box_straight() -> None:
    assert box(("Name", "N"), [("雲", 1), (None, 22)]).splitlines() == [
        "+------+----+",
        "| Name | N  |",
        "+------+----+",
        "| 雲   | 1  |",
        "|      | 22 |",
        "+------+----+",
    ]
