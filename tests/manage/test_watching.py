"""--watch: what only reads is shown again and again, in place on a terminal, and Ctrl-C ends it."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from cell_service.context import ManualClock
from tests.manage.conftest import Site
from tools.manage.command import Args
from tools.manage.main import COMMANDS
from tools.manage.out import Out
from tools.manage.watching import watch

LIST = ("cell_v2", "list_cells")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Now(ManualClock):
    """A wait takes no time, and is counted; the last one is interrupted."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._left = waits

    def wait(self, event: object, seconds: float) -> bool:
        self.waited.append(seconds)
        if len(self.waited) > self._left:
            raise KeyboardInterrupt
        return False


def watched(once: Callable[[Out], int], clock: Now, stdout: io.StringIO, count: int = 0) -> int:
    args = cast(Args, SimpleNamespace(watch=5.0, watch_count=count))
    return watch(once, args, Out(stdout=stdout, stderr=io.StringIO(), stdin=None), "list", clock)


def test_it_is_shown_so_many_times(site: Site) -> None:
    site.add_cell("c1")
    ran = site.run(*LIST, "--watch", "0.001", "--watch-count", "3")
    assert (ran.code, ran.out.count(" c1 "), "\033" in ran.out) == (0, 3, False)
    ran = site.run(*LIST, "--watch", "0.001", "--watch-count", "2", "-f", "value", "-c", "name")
    assert ran.out == "c1\nc1\n"


def test_ctrl_c_ends_it_with_the_last_exit_code() -> None:
    codes, clock, screen = iter([0, 0, 1]), Now(2), io.StringIO()
    assert watched(lambda out: next(codes), clock, screen) == 1
    assert clock.waited == [5.0, 5.0, 5.0]


def test_ctrl_c_in_a_run_ends_it() -> None:
    def once(out: Out) -> int:
        raise KeyboardInterrupt

    assert watched(once, Now(0), io.StringIO()) == 0


def test_on_a_terminal_it_is_shown_in_place() -> None:
    def once(out: Out) -> int:
        out.table(("Name",), [("c1",)])
        out.warn("c2 is down")
        return 0

    screen = Screen()
    watched(once, Now(1), screen, count=2)
    parts = screen.getvalue().split("\033[H")
    assert parts[0] == ""
    assert parts[1] == parts[2]
    assert parts[1].startswith("Every 5 s: list   2026-01-01 00:00:00 UTC\033[K\n")
    assert "| c1   |\033[K\n" in parts[1]
    assert "c2 is down\033[K\n\033[J" in parts[1]


def test_a_database_that_is_away_for_a_moment_does_not_end_it(site: Site) -> None:
    site.configure(api_database__connection="mysql://u:p@127.0.0.1:1/x")
    ran = site.run(*LIST, "--watch", "0.001", "--watch-count", "2")
    assert (ran.code, len(ran.err.splitlines())) == (255, 2)


@pytest.mark.parametrize("words", [(*LIST, "--watch", "0"), (*LIST, "--watch", "x"),
                                   ("cell_v2", "create_cell", "--watch", "2")])  # fmt: skip
def test_what_cannot_be_watched_is_2(site: Site, words: tuple[str, ...]) -> None:
    assert site.run(*words).code == 2


def test_only_what_asks_for_no_confirmation_can_be_watched() -> None:
    options = {each.name: {name for given in each.arguments for name in given.names} for each in COMMANDS if each.reads}
    assert set(options) >= {"cell_v2 list_cells", "cell_v2 list_hosts", "db version", "placement list"}
    assert not any({"--yes", "--repair", "--dry-run"} & names for names in options.values())
