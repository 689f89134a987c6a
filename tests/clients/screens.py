"""Screens of the pages that people see, as PNG files: `python -m tests.clients.screens DIRECTORY`."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

from cell_service.consoles.proxy import ConsoleProxy
from cell_service.model.console import ConsolePlace, ConsoleToken
from compute_host.virt.simulated import screens
from tests.clients.browser import Browser, Page
from tests.edge.compute_api import ComputeApi

WIDTHS = (1280, 390)


@dataclass(frozen=True)
class Shown:
    """A page: its address, and what holds when it is there as a person sees it."""

    name: str
    url: str
    there: str

    def open(self, browser: Browser, width: int, dark: bool) -> Page:
        page = browser.open(self.url, width=width, dark=dark)
        page.until(self.there)
        return page


@contextmanager
def pages(directory: Path) -> Iterator[list[Shown]]:
    """All pages, of an API and a console proxy of this process."""
    api = ComputeApi(directory)
    try:
        with console("serial", _greet) as terminal, console("novnc", _show) as screen:
            root = f"http://127.0.0.1:{api.server.port}"
            operation = "document.querySelector('.opblock-post .try-out')"
            yield [
                Shown("front", f"{root}/", "document.querySelectorAll('a').length > 3"),
                Shown("docs", f"{root}/v2.1/docs", "document.querySelectorAll('.opblock').length > 3"),
                Shown("create", f"{root}/v2.1/docs#/Servers/post-servers", operation),
                Shown("action", f"{root}/v2.1/docs#/Servers/post-servers-id-action", operation),
                Shown("terminal", terminal, "document.body.innerText.includes('login:')"),
                Shown("screen", screen, "document.querySelector('canvas')?.width === 720"),
            ]
    finally:
        api.close()


@contextmanager
def console(kind: str, talk: Callable[[socket.socket], None], **fields: Any) -> Iterator[str]:
    """The address of a console, each connection to which has a thread that talks; with other `fields` of its token."""
    with socket.create_server(("127.0.0.1", 0)) as guest:
        place = ConsolePlace("127.0.0.1", guest.getsockname()[1], "http://127.0.0.1")
        token = ConsoleToken("i1", kind, "h1", place, datetime(2100, 1, 1, tzinfo=UTC), name="web-1", state="active")
        proxy = ConsoleProxy(lambda secret: replace(token, **fields) if secret == "any" else None)
        proxy.start()
        Thread(target=_serve, args=(guest, talk), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.port}/?token=any"
        finally:
            proxy.drain(0)


def _serve(guest: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    """Until the guest is closed."""
    with suppress(OSError):
        while True:
            Thread(target=_talk, args=(guest.accept()[0], talk), daemon=True).start()


def _talk(connection: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    with connection, suppress(OSError):
        talk(connection)


def _greet(connection: socket.socket) -> None:
    connection.sendall(b"Welcome\r\nvm1 login: ")
    while said := connection.recv(4096):
        connection.sendall(said)


def _show(connection: socket.socket) -> None:
    screens.serve(connection, "web-1")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, pages(Path(place)) as shown, Browser() as browser:
        for each, width, dark in product(shown, WIDTHS, (False, True)):
            page = each.open(browser, width, dark)
            page.screen(directory / f"{each.name}-{width}-{'dark' if dark else 'light'}.png")
            page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
