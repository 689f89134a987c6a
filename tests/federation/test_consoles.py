"""Consoles of servers: asked for at the API, opened through the proxy."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from api_cell.servers import consoles
from cell_service.consoles.cell import CellConsoles
from cell_service.consoles.config import ConsoleSettings, Spice
from cell_service.consoles.proxy import REVOKED, ConsoleProxy
from cell_service.consoles.sessions import SessionRules
from cell_service.context import Deadline
from cell_service.db import console_tokens
from cell_service.model.console import ConsoleToken
from tests.federation.cloud import Federation


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("cloud"), move_seconds=0, live_seconds=0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def proxy(quick: Federation) -> Iterator[ConsoleProxy]:
    """A proxy of the first cell, which has the cell's database and queue alone."""
    cell = quick.cells.open(quick.ids["cell1"])
    made = ConsoleProxy(CellConsoles(lambda: cell.db.connect(Deadline.after(10)), cell.bus, quick.clock).opened_by)
    made.start()
    yield made
    made.drain(2)


def opened(cloud: Federation, uuid: str, kind: str, protocol: str) -> str:
    body = {"remote_console": {"protocol": protocol, "type": kind}}
    answer = cloud.admin.post(f"/servers/{uuid}/remote-consoles", body, version="2.6")
    assert answer.status == 200, answer.raw
    console = answer.json["remote_console"]
    assert (console["protocol"], console["type"]) == (protocol, kind)
    return str(console["url"])


def secret_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


async def talk(proxy: ConsoleProxy, query: str, said: bytes, origin: str | None = None) -> tuple[bytes, bytes]:
    """The greeting, and the echo of what was said."""
    headers = {} if origin is None else {"Origin": origin}
    request = HTTPRequest(f"ws://127.0.0.1:{proxy.port}/websockify?{query}", headers=headers)
    socket = await websocket_connect(request, subprotocols=["binary"])
    greeting = await socket.read_message()
    await socket.write_message(said, binary=True)
    echo = await socket.read_message()
    socket.close()
    assert isinstance(greeting, bytes)
    assert isinstance(echo, bytes)
    return greeting, echo


def refused(proxy: ConsoleProxy, query: str, origin: str | None = None) -> int:
    with pytest.raises(HTTPClientError) as caught:
        asyncio.run(talk(proxy, query, b"x", origin))
    return caught.value.code


def test_a_serial_console_is_opened(quick: Federation, proxy: ConsoleProxy) -> None:
    uuid = quick.boot(cell="cell1", name="talker")
    url = opened(quick, uuid, "serial", "serial")
    assert url.startswith("ws://127.0.0.1:6083/?token=")
    greeting, echo = asyncio.run(talk(proxy, urlsplit(url).query, b"root\n"))
    assert b"talker login: " in greeting
    assert echo == b"root\n"
    assert refused(proxy, urlsplit(url).query, origin="http://elsewhere.example") == 403
    assert refused(proxy, f"token={uuid4()}") == 403
    assert refused(proxy, "") == 403


def test_vnc_passes_its_token_in_a_path(quick: Federation, proxy: ConsoleProxy) -> None:
    uuid = quick.boot(cell="cell1")
    url = opened(quick, uuid, "novnc", "vnc")
    assert url.startswith("http://127.0.0.1:6080/vnc_auto.html?path=%3Ftoken%3D")
    greeting, security = asyncio.run(talk(proxy, urlsplit(url).query, b"RFB 003.008\n"))
    assert (greeting, security) == (b"RFB 003.008\n", b"\1\1")
    old = quick.admin.post(f"/servers/{uuid}/action", {"os-getVNCConsole": {"type": "novnc"}}, version="2.5")
    assert old.status == 200
    assert set(old.json["console"]) == {"type", "url"}


def test_what_a_token_opens(quick: Federation, proxy: ConsoleProxy) -> None:
    uuid = quick.boot(cell="cell1")
    secret = secret_of(opened(quick, uuid, "serial", "serial"))
    path = f"/os-console-auth-tokens/{secret}"
    shown = quick.admin.get(path, version="2.31").json["console"]
    assert (shown["instance_uuid"], shown["host"], shown["internal_access_path"]) == (uuid, "127.0.0.1", None)
    assert quick.admin.get(path, version="2.99").json["console"]["tls_port"] is None
    assert quick.admin.get(path, version="2.30").status == 401
    assert quick.admin.get(path + "?x=1", version="2.99").status == 400
    assert quick.admin.get(f"/os-console-auth-tokens/{uuid4()}", version="2.31").status == 404
    assert quick.user("u", uuid4().hex).get(path, version="2.31").status == 403
    with quick.cells.open(quick.ids["cell1"]).db.connect(Deadline.after(10)) as tx:
        later = quick.clock.now() + timedelta(seconds=599)
        assert console_tokens.find(tx, secret, later) is not None
        assert console_tokens.find(tx, secret, later + timedelta(seconds=2)) is None
    assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(uuid))
    quick.until(lambda: quick.admin.get(path, version="2.31").status == 404)
    assert refused(proxy, f"token={secret}") == 403


@pytest.fixture
def everywhere(quick: Federation) -> Iterator[ConsoleProxy]:
    """A proxy of all cells; each console is an echo that outlives its server."""
    with socket.create_server(("127.0.0.1", 0)) as guest:
        threading.Thread(target=_echo_all, args=(guest,), daemon=True).start()
        port = guest.getsockname()[1]

        def lookup(secret: str) -> ConsoleToken | None:
            found = consoles.opened_by(quick.cloud, secret)
            return found and replace(found, place=replace(found.place, port=port))

        made = ConsoleProxy(lookup, rules=SessionRules(partial(consoles.ended, quick.cloud), clock=quick.clock))
        made.start()
        yield made
        made.drain(2)


def _echo_all(guest: socket.socket) -> None:
    with suppress(OSError):  # the guest is closed
        while True:
            threading.Thread(target=_echo, args=(guest.accept()[0],), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while said := connection.recv(4096):
            connection.sendall(said)


class Watching:
    """A user who has opened a console: `heard`, and the code with which the connection was closed."""

    def __init__(self, proxy: ConsoleProxy, secret: str) -> None:
        self.heard, self.code = b"", 0
        self._opened = threading.Event()
        self._loop = asyncio.new_event_loop()
        url = f"ws://127.0.0.1:{proxy.port}/?token={secret}"
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._watch(url),), daemon=True)
        self._thread.start()
        assert self._opened.wait(60)

    async def _watch(self, url: str) -> None:
        self._socket = await websocket_connect(url, subprotocols=["binary"])
        self._opened.set()
        while isinstance(message := await self._socket.read_message(), bytes):
            self.heard += message
        self.code = self._socket.close_code or 1

    def say(self, said: bytes) -> None:
        self._loop.call_soon_threadsafe(self._socket.write_message, said, True)

    def close(self) -> None:
        if not self.code:
            self._loop.call_soon_threadsafe(self._socket.close)
        self._thread.join(60)
        self._loop.close()


ENDINGS = {
    "delete": lambda cloud, uuid: cloud.admin.delete(f"/servers/{uuid}"),
    "rebuild": lambda cloud, uuid: cloud.act(uuid, "rebuild", {"imageRef": cloud.image_id}),
    "live-migration": lambda cloud, uuid: cloud.act(uuid, "os-migrateLive", {"host": None, "block_migration": "auto"}),
    "migration": lambda cloud, uuid: cloud.act(uuid, "migrate"),
    "shelve": lambda cloud, uuid: cloud.act(uuid, "shelve"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_open_console_ends_with_its_servers_life_there(
    quick: Federation, everywhere: ConsoleProxy, ending: str
) -> None:
    uuid, other = quick.boot(), quick.boot()
    secret, others = (secret_of(opened(quick, each, "serial", "serial")) for each in (uuid, other))
    seen, kept = Watching(everywhere, secret), Watching(everywhere, others)
    try:
        seen.say(b"x")
        quick.until(lambda: seen.heard == b"x")
        assert ENDINGS[ending](quick, uuid).status in (202, 204)
        quick.until(lambda: seen.code == REVOKED)
        kept.say(b"y")
        quick.until(lambda: kept.heard == b"y")
        assert refused(everywhere, f"token={secret}") == 403
        if ending != "delete":
            quick.settled(uuid)
            assert refused(everywhere, f"token={secret}") == 403
    finally:
        seen.close()
        kept.close()


def test_a_cell_that_is_down_ends_no_console(quick: Federation, everywhere: ConsoleProxy) -> None:
    near, far = quick.boot(cell="cell1"), quick.boot(cell="cell2")
    opened_now = [secret_of(opened(quick, uuid, "serial", "serial")) for uuid in (near, far)]
    tokens = [token for secret in opened_now if (token := consoles.opened_by(quick.cloud, secret))]
    assert [token.name for token in tokens] == [quick.show(uuid)["name"] for uuid in (near, far)]
    assert consoles.ended(quick.cloud, tokens) == []
    for uuid in (near, far):
        assert quick.admin.delete(f"/servers/{uuid}").status == 204
    quick.until(lambda: quick.gone(near) and quick.gone(far))
    quick.silence("cell2")
    try:
        quick.until(lambda: [each.instance_uuid for each in consoles.ended(quick.cloud, tokens)] == [near])
    finally:
        quick.wake("cell2")
    quick.until(lambda: {each.instance_uuid for each in consoles.ended(quick.cloud, tokens)} == {near, far})


@pytest.mark.parametrize("kind", ["proxy", "everywhere"])
def test_a_token_opens_no_other_guest_that_has_the_port_by_now(
    quick: Federation, kind: str, request: pytest.FixtureRequest
) -> None:
    """Neither at the proxy of all cells nor at that of one."""
    at: ConsoleProxy = request.getfixturevalue(kind)
    uuid = quick.boot(cell="cell1")
    secret = secret_of(opened(quick, uuid, "serial", "serial"))
    assert quick.act(uuid, "os-stop").status == 202
    quick.until(lambda: quick.show(uuid)["status"] == "SHUTOFF")
    assert refused(at, f"token={secret}") == 403
    body = {"remote_console": {"protocol": "serial", "type": "serial"}}
    assert quick.admin.post(f"/servers/{uuid}/remote-consoles", body, version="2.6").status == 409
    assert quick.act(uuid, "os-start").status == 202
    quick.until(lambda: quick.show(uuid)["status"] == "ACTIVE")
    again = Watching(at, secret_of(opened(quick, uuid, "serial", "serial")))
    again.say(b"x")
    quick.until(lambda: again.heard.endswith(b"x"))
    again.close()


def test_a_spice_client_finds_the_host_by_its_token(tmp_path_factory: pytest.TempPathFactory) -> None:
    spice = Spice(enabled=True, spice_direct_proxy_base_url="https://spice.example/open")
    cloud = Federation(tmp_path_factory.mktemp("spice"), consoles=ConsoleSettings(spice=spice), move_seconds=0)
    try:
        uuid = cloud.boot(cell="cell1")
        body = {"remote_console": {"protocol": "spice", "type": "spice-direct"}}
        assert cloud.admin.post(f"/servers/{uuid}/remote-consoles", body, version="2.98").status == 400
        answer = cloud.admin.post(f"/servers/{uuid}/remote-consoles", body, version="2.99")
        assert answer.status == 200, answer.raw
        console = answer.json["remote_console"]
        assert (console["protocol"], console["type"]) == ("spice", "spice-direct")
        assert console["url"].startswith("https://spice.example/open?token=")
        secret = secret_of(console["url"])
        shown = cloud.admin.get(f"/os-console-auth-tokens/{secret}", version="2.99").json["console"]
        assert set(shown) == {"instance_uuid", "host", "port", "tls_port", "internal_access_path"}
        assert (shown["instance_uuid"], shown["host"], shown["tls_port"]) == (uuid, "127.0.0.1", None)
        assert shown["port"] > 0
        proxy = ConsoleProxy(partial(consoles.opened_by, cloud.cloud))
        proxy.start()
        try:
            assert refused(proxy, f"token={secret}") == 403
            html5 = opened(cloud, uuid, "spice-html5", "spice")
            greeting, echo = asyncio.run(talk(proxy, urlsplit(html5).query, b"x"))
            assert (bool(greeting), echo) == (True, b"x")
        finally:
            proxy.drain(2)
    finally:
        cloud.close()


def test_what_is_refused(quick: Federation) -> None:
    user = quick.user("u", uuid4().hex)
    uuid = quick.boot(user)

    def asked(protocol: str, kind: str, version: str = "2.99") -> int:
        body = {"remote_console": {"protocol": protocol, "type": kind}}
        return user.post(f"/servers/{uuid}/remote-consoles", body, version=version).status

    assert asked("serial", "serial", "2.5") == 404
    assert asked("mks", "webmks", "2.7") == 400
    assert asked("mks", "webmks", "2.8") == 400
    assert asked("spice", "spice-direct") == 400
    assert asked("spice", "spice-html5") == 400
    assert asked("vnc", "serial") == 400
    assert asked("rdp", "rdp-html5") == 400
    assert asked("serial", "serial") == 200
    body = {"os-getRDPConsole": {"type": "rdp-html5"}}
    assert user.post(f"/servers/{uuid}/action", body, version="2.1").status == 400
    stranger = quick.user("v", uuid4().hex)
    body = {"remote_console": {"protocol": "serial", "type": "serial"}}
    assert stranger.post(f"/servers/{uuid}/remote-consoles", body, version="2.6").status == 404
