"""Pages of other sites: they open no console, and nothing is done for them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from cell_service.consoles.proxy import ConsoleProxy
from cell_service.model.console import ConsolePlace, ConsoleToken
from tests.consoles.users import UNTIL


class Guarded:
    """A proxy, the tokens that were looked up, and whether the guest has been reached."""

    def __init__(self, guest: socket.socket) -> None:
        self._guest, self.looked_up = guest, list[str]()
        guest.setblocking(False)
        self.proxy = ConsoleProxy(self._lookup, allowed_origins=("dashboard.example",))
        self.proxy.start()

    def _lookup(self, secret: str) -> ConsoleToken:
        self.looked_up.append(secret)
        return ConsoleToken("i1", "serial", "h1", ConsolePlace("127.0.0.1", self._guest.getsockname()[1], ""), UNTIL)

    def reached(self) -> bool:
        try:
            self._guest.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def status(self, headers: Mapping[str, str]) -> int:
        """With which a web socket of such a client is answered."""
        own = {name: value.format(port=self.proxy.port) for name, value in headers.items()}
        request = HTTPRequest(f"ws://127.0.0.1:{self.proxy.port}/?token=any", headers=own)

        async def opened() -> int:
            try:
                (await websocket_connect(request)).close()
            except HTTPClientError as error:
                return error.code
            return 101

        return asyncio.run(opened())


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with socket.create_server(("127.0.0.1", 0)) as guest:
        made = Guarded(guest)
        yield made
        made.proxy.drain(0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://[elsewhere"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Websocket-Origin": "http://elsewhere.example"},
        {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://a.example", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_nothing_is_done_for_a_page_of_another_site(guarded: Guarded, headers: Mapping[str, str]) -> None:
    assert guarded.status(headers) == 403
    assert (guarded.looked_up, guarded.reached(), guarded.proxy.open) == ([], False, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:{port}"},
        {"Origin": "https://dashboard.example"},
        {"Origin": "https://dashboard.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://front.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_pages_that_are_ours_or_allowed_open_a_console(guarded: Guarded, headers: Mapping[str, str]) -> None:
    """The last: of a proxy before ours that has a name of its own; only the browser itself can say so."""
    assert guarded.status(headers) == 101
    assert guarded.looked_up == ["any"]
    assert guarded.reached()
