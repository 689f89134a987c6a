"""The page of a SPICE console in Chromium, with the screen and the keyboard of a real QEMU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from cell_service.consoles.proxy import ConsoleProxy
from cell_service.consoles.sessions import GONE, SessionRules
from cell_service.model.console import ConsolePlace, ConsoleToken
from tests.clients.browser import PROGRAM, Browser, Page
from tests.real.databases import wait_until
from tests.real.listening import listens

QEMU = shutil.which("qemu-system-x86_64")


def _spice() -> bool:
    """Whether QEMU knows SPICE, which Debian has in a module of its own."""
    if QEMU is None:
        return False
    said = subprocess.run([QEMU, "-spice", "help"], capture_output=True, text=True, check=False)
    return "disable-ticketing" in said.stdout + said.stderr


pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: pages are not looked at"),
    pytest.mark.skipif(not _spice(), reason="needs qemu-system-x86_64 that knows SPICE"),
]
LINE = "document.getElementById('line').innerText"
CANVAS = "document.querySelector('#place canvas')"
RED, GREEN, BLUE = "true,false,false", "false,true,false", "false,false,true"
"""Which of the three colours are strong."""
GUEST = bytes.fromhex(
    "b8 03 00 cd 10"  # text of 80 columns
    "b7 4f b8 00 06 31 c9 ba 4f 18 cd 10"  # fill the screen with red
    "31 c0 cd 16"  # wait for a key
    "b7 2f 3c 67 74 ec"  # g: fill with green
    "b7 1f 3c 42 74 e6"  # B: fill with blue
    "eb ee"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


@contextmanager
def desktop(directory: Path, *more: str, ticket: str = "disable-ticketing=on") -> Iterator[ConsoleToken]:
    """A guest with a red screen, which is green after a g, and blue after a B."""
    assert QEMU is not None
    at, log, disk = directory / "spice.sock", directory / "qemu.log", directory / "disk"
    disk.write_bytes(GUEST.ljust(510, b"\0") + b"\x55\xaa")
    command = [QEMU, "-machine", "pc,accel=tcg", "-m", "32", "-nodefaults", "-vga", "std", "-display", "none",
               "-drive", f"file={disk},format=raw", "-spice", f"unix=on,addr={at},{ticket}", *more]  # fmt: skip
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_until(lambda: listens(at) or process.poll() is not None, "QEMU does not start")
        assert process.poll() is None, log.read_text("utf-8", "replace")
        until = datetime(2100, 1, 1, tzinfo=UTC)
        place = ConsolePlace(str(at), 0, "")
        yield ConsoleToken("i1", "spice-html5", "h1", place, until, name="web-1", state="active")
    finally:
        process.kill()
        process.wait()


@contextmanager
def proxied(token: ConsoleToken, rules: SessionRules | None = None) -> Iterator[ConsoleProxy]:
    proxy = ConsoleProxy(lambda secret: token if secret == "any" else None, rules=rules)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.drain(0)


def address(proxy: ConsoleProxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/spice_auto.html?token=any"


def _is(colour: str) -> str:
    """The guest's screen is of this colour, below its first line. A copy is read, for a canvas that is read is slower
    then, and the browser warns of that."""
    return (f"(it => {{ const copy = document.createElement('canvas').getContext('2d', {{willReadFrequently: true}});"
            f" copy.drawImage(it, 40, 200, 1, 1, 0, 0, 1, 1); const found = copy.getImageData(0, 0, 1, 1).data;"
            f" return Array.from(found.slice(0, 3), each => each > 120).join() === '{colour}' }})"
            f"({CANVAS})")  # fmt: skip


def coloured(page: Page, colour: str) -> None:
    page.until(f"{CANVAS} && {_is(colour)}")


def typed(page: Page, strike: Callable[[], object], colour: str) -> None:
    """The key is struck until the guest shows the colour, for the keyboard's web socket may come after the screen's."""

    def done() -> bool:
        strike()
        return bool(page.eval(_is(colour)))

    wait_until(done, "the guest shows nothing of what is typed")


def test_a_screen_is_seen_and_typed_into(browser: Browser, tmp_path: Path) -> None:
    with desktop(tmp_path) as token, proxied(token) as proxy:
        page = browser.open(address(proxy))
        page.until(f"{LINE} === 'connected'")
        coloured(page, RED)
        assert page.eval("document.title") == "web-1: console"
        assert page.eval("[document.getElementById('name').innerText, document.getElementById('state').innerText]") == [
            "web-1", "active",
        ]  # fmt: skip
        wait_until(lambda: proxy.open >= 4, "main, display, cursor and inputs each have a web socket")
        page.eval(f"{CANVAS}.dataset.earlier = '1'")
        page.click("#again")
        page.until(f"{CANVAS} && !{CANVAS}.dataset.earlier && {LINE} === 'connected'")
        coloured(page, RED)

        def strike() -> None:
            for kind in ("rawKeyDown", "keyUp"):
                page.call("Input.dispatchKeyEvent", type=kind, windowsVirtualKeyCode=71, code="KeyG", key="g")

        typed(page, strike, GREEN)
        page.click("#cad")  # the guest starts again
        coloured(page, RED)
        assert page.problems == []
        page.close()
        wait_until(lambda: proxy.open == 0, "web sockets are left")


def test_a_telephone_types_letters_of_both_cases(browser: Browser, tmp_path: Path) -> None:
    with desktop(tmp_path) as token, proxied(token) as proxy:
        page = browser.open(address(proxy), width=390)
        coloured(page, RED)
        assert page.eval(f"{CANVAS}.getBoundingClientRect().width") <= 390
        page.eval("document.getElementById('typed').focus()")
        for letter, colour in (("B", BLUE), ("g", GREEN)):
            typed(page, partial(page.call, "Input.insertText", text=letter), colour)
        assert page.problems == []
        page.close()


def test_all_web_sockets_end_with_the_server(browser: Browser, tmp_path: Path) -> None:
    gone: list[ConsoleToken] = []
    with desktop(tmp_path) as token, proxied(token, SessionRules(lambda _opened: gone, seconds=0.1)) as proxy:
        page = browser.open(address(proxy))
        coloured(page, RED)
        gone.append(token)
        page.until(f"{LINE} === {GONE!r}")
        wait_until(lambda: proxy.open == 0, "web sockets are left")
        page.close()


def test_a_host_that_demands_a_password_is_said_so(browser: Browser, tmp_path: Path) -> None:
    secret = ("-object", "secret,id=word,data=letmein")
    with desktop(tmp_path, *secret, ticket="password-secret=word") as token, proxied(token) as proxy:
        page = browser.open(address(proxy))
        page.until(f"{LINE}.includes('The console refuses: Permission denied')")
        page.close()
