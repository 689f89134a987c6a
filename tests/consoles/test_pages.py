"""What browsers and load balancers get from the console proxy, and the headers of all pages."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cell_service.consoles.pages import ROOT, VERSION, page, page_headers_of
from cell_service.consoles.proxy import ConsoleProxy
from cell_service.errors import Unavailable
from cell_service.http.connections import ConnectionSettings
from cell_service.model.console import ConsolePlace, ConsoleToken
from tests.real.databases import wait_until


def lookup(secret: str) -> ConsoleToken | None:
    place = ConsolePlace("127.0.0.1", 1, "http://127.0.0.1")
    return ConsoleToken("i1", "serial", "h1", place, datetime(2030, 1, 1, tzinfo=UTC)) if secret == "good" else None


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[ConsoleProxy]:
    (tmp_path / "vnc_lite.html").write_text("<p>a viewer")
    made = ConsoleProxy(lookup, allowed_origins=("dashboard.example",), web=str(tmp_path))
    made.start()
    yield made
    made.drain(0)


@pytest.fixture
def plain() -> Iterator[ConsoleProxy]:
    """A proxy whose viewer is ours."""
    made = ConsoleProxy(lookup)
    made.start()
    yield made
    made.drain(0)


def ask(proxy: ConsoleProxy, method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_probes_of_load_balancers_are_answered(viewer: ConsoleProxy) -> None:
    assert ask(viewer, "HEAD", "/").status == 200
    options = ask(viewer, "OPTIONS", "/")
    assert (options.status, options.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")
    assert ask(viewer, "GET", "/").status == 403


WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("query", "upgrade", "status"),
    [("token=bad", WEBSOCKET, 403), ("", WEBSOCKET, 403), ("token=good", WEBSOCKET, 502), ("token=bad", "", 403)],
)
def test_a_refusal_ends_the_connection(viewer: ConsoleProxy, query: str, upgrade: str, status: int) -> None:
    """Clients of websockets wait for that."""
    head = f"GET /?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-WebSocket-Version: 13\r\n"
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=60) as connection:
        connection.sendall(f"{head}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{upgrade}\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("path", ["/?token=good", "/vnc_lite.html"])
def test_only_pages_that_are_allowed_frame_a_console(viewer: ConsoleProxy, path: str) -> None:
    answer = ask(viewer, "GET", path)
    assert answer.status == 200
    assert "frame-ancestors 'self' dashboard.example" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_policy_of_a_page_allows_files_of_its_own_and_no_others() -> None:
    policy = page_headers_of("a1", "ws://127.0.0.1:6080", ("dashboard.example",))["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self' 'nonce-a1'; ")
    assert "connect-src 'self' ws://127.0.0.1:6080; " in policy
    assert "unsafe" not in policy
    assert 'nonce="a1"' in page("a1")
    assert "<style" not in page("a1")
    assert "connect-src 'self'; " in page_headers_of("a1", "ws://a; script-src *", ())["Content-Security-Policy"]


@pytest.mark.parametrize("web", [True, False])
def test_a_page_has_its_files_and_facts(viewer: ConsoleProxy, plain: ConsoleProxy, web: bool) -> None:
    proxy = viewer if web else plain
    page = ask(proxy, "GET", "/?token=good")
    assert (page.status, page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == (
        200, "no-store", "no-referrer",
    )  # fmt: skip
    for name in ("page.js", "novnc/core/rfb.js", "xterm/xterm.mjs", "spice/main.js"):
        script = ask(proxy, "GET", f"/files/{VERSION}/{name}")
        assert (script.status, script.headers["Content-Type"]) == (200, "text/javascript")
        assert script.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("..%2f..%2fconfig.py", "../config.py", "none.js"):
        assert ask(proxy, "GET", f"/files/{VERSION}/{name}").status in (403, 404)
    facts = ask(proxy, "GET", "/about?token=good")
    assert (facts.status, facts.headers["Cache-Control"]) == (200, "no-store")
    assert ask(proxy, "GET", "/about?token=bad").status == 403


def test_a_page_is_there_while_a_cell_is_down_and_tries_again() -> None:
    def down(_secret: str) -> ConsoleToken | None:
        raise Unavailable(reason="the cell is down")

    proxy = ConsoleProxy(down)
    proxy.start()
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
            connection.sendall(b"GET /vnc_auto.html?token=good HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"<main" in answer
        assert ask(proxy, "GET", "/about?token=good").status == 503
    finally:
        proxy.drain(0)


def test_the_licences_of_others_are_with_their_files() -> None:
    for name in ("novnc/LICENSE.txt", "novnc/docs/LICENSE.MPL-2.0", "novnc/vendor/pako/LICENSE", "xterm/LICENSE",
                 "spice/COPYRIGHT", "spice/LICENSE.LGPL-3", "spice/LICENSE.GPL-3"):  # fmt: skip
        assert (ROOT / name).read_text("utf-8").strip()


@pytest.fixture
def console() -> Iterator[socket.socket]:
    """Where a console is; it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def opened(console: socket.socket, settings: ConnectionSettings) -> tuple[ConsoleProxy, socket.socket]:
    """A proxy with these limits, and a web socket that it has opened to the console."""
    place = ConsolePlace("127.0.0.1", console.getsockname()[1], "http://127.0.0.1")
    token = ConsoleToken("i1", "serial", "h1", place, datetime(2030, 1, 1, tzinfo=UTC))
    proxy = ConsoleProxy(lambda _secret: token)
    proxy.start(settings=settings)
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    head = f"GET /?token=good HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-WebSocket-Version: 13\r\n{WEBSOCKET}"
    client.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 101"
    return proxy, client


def test_a_web_socket_counts_in_the_connections_of_its_client(console: socket.socket) -> None:
    proxy, client = opened(console, ConnectionSettings(per_client=1))

    def probe() -> bool:
        try:
            return ask(proxy, "HEAD", "/").status == 200
        except (ConnectionError, http.client.HTTPException):
            return False

    try:
        assert not probe()
        client.close()
        wait_until(probe, "a web socket that is closed is counted")
    finally:
        proxy.drain(0)


def test_a_web_socket_whose_client_answers_no_ping_is_closed(console: socket.socket) -> None:
    proxy, client = opened(console, ConnectionSettings(seconds=2.0))
    try:
        with client:
            while client.recv(65536):
                pass
        wait_until(lambda: not proxy.open, "the proxy does not know that it is closed")
    finally:
        proxy.drain(0)
