"""Open consoles are closed when their server is gone, and only then."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import pytest

from cell_service.consoles.sessions import EXPIRED, GONE, Session, SessionRules, Sessions
from cell_service.context import ManualClock
from cell_service.errors import Unavailable
from cell_service.model.console import ConsolePlace, ConsoleToken


class Proxy:
    """Sessions, the consoles that are to be closed, and those that were."""

    def __init__(self, *, with_token: bool = False) -> None:
        self.clock, self.gone, self.closed = ManualClock(), set[str](), list[tuple[str, str]]()
        self.queries: list[int] = []
        self.down = False
        self.sessions = Sessions(SessionRules(self._ended, with_token, self.clock))

    def open(self, uuid: str, seconds: float = 600) -> Session:
        until = self.clock.now() + timedelta(seconds=seconds)
        token = ConsoleToken(uuid, "serial", "h1", ConsolePlace("127.0.0.1", 1, ""), until)
        made = Session(token, lambda reason: self.closed.append((uuid, reason)))
        self.sessions.add(made)
        return made

    def _ended(self, opened: Collection[ConsoleToken]) -> Collection[ConsoleToken]:
        self.queries.append(len(opened))
        if self.down:
            raise Unavailable(reason="the database is down")
        return [token for token in opened if token.instance_uuid in self.gone]


def test_the_consoles_of_a_server_that_is_gone_are_closed_by_one_query_for_all() -> None:
    proxy = Proxy()
    first, second = proxy.open("a"), proxy.open("b")
    proxy.open("b")
    proxy.sessions.check()
    assert (proxy.queries, proxy.closed) == ([3], [])
    proxy.gone.add("b")
    proxy.sessions.check()
    assert proxy.closed == [("b", GONE)] * 2
    proxy.sessions.remove(first)
    proxy.sessions.remove(first)
    proxy.sessions.remove(second)
    assert len(proxy.sessions) == 1


def test_nothing_is_queried_where_no_console_is_open() -> None:
    proxy = Proxy()
    proxy.sessions.check()
    assert proxy.queries == []


def test_a_database_that_is_down_closes_nothing() -> None:
    proxy = Proxy()
    proxy.open("a")
    proxy.gone.add("a")
    proxy.down = True
    with pytest.raises(Unavailable):
        proxy.sessions.check()
    assert proxy.closed == []


@pytest.mark.parametrize(("with_token", "closed"), [(False, []), (True, [("a", EXPIRED)])])
def test_the_end_of_a_token_closes_a_console_where_that_is_configured(
    with_token: bool, closed: list[tuple[str, str]]
) -> None:
    proxy = Proxy(with_token=with_token)
    proxy.open("a", seconds=10)
    proxy.open("b", seconds=600)
    proxy.clock.advance(11)
    proxy.sessions.check()
    assert proxy.closed == closed
