"""The page of a console in Chromium: a screen and a terminal, as a person uses them, and a page of an attacker."""

from __future__ import annotations

import http.server
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from cell_service.consoles.proxy import ConsoleProxy
from cell_service.consoles.sessions import GONE, SessionRules
from cell_service.model.console import ConsolePlace, ConsoleToken
from compute_host.virt.simulated import screens
from tests.clients.browser import PROGRAM, Browser, Page
from tests.clients.screens import console

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: pages are not looked at"),
]
LINE = "document.getElementById('line').innerText"
TRIED = (
    "new Promise(done => {{ const it = new WebSocket({!r}, ['binary']);"
    " it.onopen = () => done('open'); it.onerror = () => done('refused') }})"
)
ROWS = "document.querySelector('.xterm-rows').innerText"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


def echo(connection: socket.socket) -> None:
    connection.sendall(b"vm1 login: ")
    while said := connection.recv(4096):
        connection.sendall(said)


def show(connection: socket.socket) -> None:
    screens.serve(connection, "web-1")


def keyboard(page: Page, text: str) -> None:
    """Typed where the focus is."""
    page.call("Input.insertText", text=text)


def test_a_screen_is_shown_with_the_servers_name_and_state(browser: Browser) -> None:
    with console("novnc", show) as url:
        page = browser.open(url)
        page.until(f"{LINE} === 'connected' && document.querySelector('canvas').width === 720")
        page.until(_lit("canvas"))
        assert page.eval("document.querySelector('canvas').height") == 400
        assert page.eval("[document.getElementById('name').innerText, document.getElementById('state').innerText]") == [
            "web-1", "active",
        ]  # fmt: skip
        assert page.eval("document.title") == "web-1: console"
        before = page.eval(_places())
        page.click("#cad")
        page.until(f"{_places()} !== {before!r}")
        assert page.problems == []
        page.close()


def test_what_is_typed_on_a_telephone_reaches_the_screen(browser: Browser) -> None:
    with console("novnc", show) as url:
        page = browser.open(url, width=390)
        page.until(_lit("canvas"))
        before = page.eval(_places())
        page.eval("document.getElementById('typed').focus()")
        keyboard(page, "a")
        page.until(f"{_places()} !== {before!r}")
        assert page.eval("document.querySelector('canvas').getBoundingClientRect().width") <= 390
        assert page.problems == []
        page.close()


def test_a_terminal_is_typed_into_and_answers(browser: Browser) -> None:
    with console("serial", echo) as url:
        page = browser.open(url)
        page.until(f"{ROWS}.includes('login:')")
        keyboard(page, "r\u00fct")
        page.until(f"{ROWS}.includes('login: r\u00fct')")
        assert page.eval("document.getElementById('cad').hidden")
        assert page.problems == []
        page.close()


def test_colours_and_styles_break_no_rule_of_the_page(browser: Browser) -> None:
    def paint(connection: socket.socket) -> None:
        connection.sendall(b"\x1b[38;2;10;200;30mgreen\x1b[0m \x1b[1;4;31mbold\x1b[0m \x1b[7mback\x1b[0m done")
        connection.recv(1)

    with console("serial", paint) as url:
        page = browser.open(url)
        page.until(f"{ROWS}.includes('done')")
        green = "[...document.querySelectorAll('.xterm-rows span')].find(each => each.innerText === 'green')"
        page.until(f"getComputedStyle({green}).color === 'rgb(10, 200, 30)'")
        assert page.problems == []
        page.close()


def test_a_connection_that_ends_comes_again(browser: Browser) -> None:
    connections: queue.Queue[socket.socket] = queue.Queue()

    def once(connection: socket.socket) -> None:
        connections.put(connection)
        connection.sendall(b"greeting")
        connection.recv(1)

    with console("serial", once) as url:
        page = browser.open(url)
        page.until(f"{ROWS}.includes('greeting')")
        connections.get(timeout=60).shutdown(socket.SHUT_RDWR)
        second = connections.get(timeout=60)
        page.until(f"{LINE} === 'connected'")
        page.click("#again")
        connections.get(timeout=60)
        second.close()
        page.close()


def test_a_console_whose_server_is_gone_is_not_opened_again(browser: Browser) -> None:
    gone: list[ConsoleToken] = []
    with guest() as port:
        token = ConsoleToken(
            "i1", "serial", "h1", ConsolePlace("127.0.0.1", port, ""), datetime(2100, 1, 1, tzinfo=UTC)
        )
        proxy = ConsoleProxy(lambda _secret: token, rules=SessionRules(lambda _opened: gone, seconds=0.1))
        proxy.start()
        page = browser.open(f"http://127.0.0.1:{proxy.port}/?token=any")
        page.until(f"{LINE} === 'connected'")
        gone.append(token)
        page.until(f"{LINE} === {GONE!r}")
        assert proxy.open == 0
        page.close()
        proxy.drain(0)


def test_a_token_that_opens_nothing_more_is_said_so(browser: Browser) -> None:
    tokens: list[ConsoleToken | None] = []
    with guest() as port:
        token = ConsoleToken(
            "i1", "serial", "h1", ConsolePlace("127.0.0.1", port, ""), datetime(2100, 1, 1, tzinfo=UTC)
        )
        tokens.append(token)
        proxy = ConsoleProxy(lambda _secret: tokens[-1])
        proxy.start()
        page = browser.open(f"http://127.0.0.1:{proxy.port}/?token=any")
        page.until(f"{LINE} === 'connected'")
        tokens.append(None)
        page.click("#again")
        page.until(f"{LINE}.includes('opens no console any more')")
        page.close()
        proxy.drain(0)


def test_a_screen_that_host_and_proxy_do_not_agree_on_says_why_and_is_not_tried_again(browser: Browser) -> None:
    connections: queue.Queue[socket.socket] = queue.Queue()

    def demand(connection: socket.socket) -> None:
        connections.put(connection)
        connection.sendall(b"RFB 003.008\n\1\2")  # a VNC password
        connection.recv(4096)
        connection.recv(1)

    with console("novnc", demand) as url:
        page = browser.open(url)
        page.until(f"{LINE}.includes('The host demands a VNC password')")
        connections.get(timeout=60)
        page.click("#again")
        connections.get(timeout=60)
        page.until(f"{LINE}.includes('The host demands a VNC password')")
        assert connections.empty()
        page.close()


def test_a_kind_without_a_viewer_is_said_so(browser: Browser) -> None:
    with console("webmks", echo) as url:
        page = browser.open(url)
        page.until(f"{LINE}.includes('no viewer')")
        assert page.problems == []
        page.close()


def test_a_page_of_an_attacker_opens_no_console_even_with_the_token(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>Win a prize")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with console("serial", echo) as url, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        page = browser.open(f"http://localhost:{elsewhere.server_address[1]}/index.html")
        assert page.eval(TRIED.format("ws" + url.removeprefix("http"))) == "refused"
        read = f"fetch({url.replace('/?', '/about?')!r}).then(() => 'read', () => 'refused')"
        assert page.eval(read) == "refused"
        page.close()
        own = browser.open(url)
        assert own.eval(TRIED.format("ws" + url.removeprefix("http"))) == "open"
        own.close()
        elsewhere.shutdown()


def token_of(port: int) -> ConsoleToken:
    place = ConsolePlace("127.0.0.1", port, "")
    return ConsoleToken("i1", "serial", "h1", place, datetime(2100, 1, 1, tzinfo=UTC))


@contextmanager
def guest() -> Iterator[int]:
    """The port of a console that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def _pixels(selector: str) -> str:
    """Of a copy, for a canvas that is read is slower then, and the browser warns of that."""
    return (f"(it => {{ const copy = document.createElement('canvas').getContext('2d', {{willReadFrequently: true}});"
            f" copy.canvas.width = it.width; copy.canvas.height = it.height; copy.drawImage(it, 0, 0);"
            f" return copy.getImageData(0, 0, it.width, it.height).data }})"
            f"(document.querySelector({selector!r}))")  # fmt: skip


def _lit(selector: str) -> str:
    """Something light is on the canvas."""
    return f"{_pixels(selector)}.some((value, at) => at % 4 === 0 && value > 100)"


def _places() -> str:
    """The first light pixel of the canvas."""
    return f"String({_pixels('canvas')}.findIndex((value, at) => at % 4 === 0 && value > 100))"
