"""The addresses of consoles that a cloud of `polycell up` hands out lead to the guests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import requests
from tornado.websocket import websocket_connect

from tests.clients.stage import Stage, play, server, step
from tests.clients.stock import Shell

pytestmark = pytest.mark.clients

VNC = b"RFB 003.008\n"
GREETINGS = (
    ("serial", b" login: ", b"root\n", b"root\n"),
    ("novnc", VNC, VNC, b"\1\1"),
    ("spice", b" login: ", b"root\n", b"root\n"),
)


@pytest.fixture(scope="module")
def stage(shell: Shell) -> Iterator[Stage]:
    made = Stage(shell, {"vm": f"talker-{uuid4().hex[:8]}"})
    play(made, (step("server create --flavor m1.nano --image tiny --no-network {vm}", server("ACTIVE")),))
    yield made
    made.run("server delete {vm}")


async def talk(url: str, said: bytes) -> tuple[bytes, bytes]:
    socket = await websocket_connect(url, subprotocols=["binary"])
    greeting = await socket.read_message()
    await socket.write_message(said, binary=True)
    echo = await socket.read_message()
    socket.close()
    assert isinstance(greeting, bytes)
    assert isinstance(echo, bytes)
    return greeting, echo


@pytest.mark.parametrize(("kind", "greeted", "said", "answered"), GREETINGS)
def test_the_address_leads_to_the_guest(stage: Stage, kind: str, greeted: bytes, said: bytes, answered: bytes) -> None:
    url = stage.run(f"console url show --{kind} {{vm}}")["url"]
    greeting, echo = asyncio.run(talk("ws" + url.removeprefix("http") if url.startswith("http") else url, said))
    assert greeted in greeting
    assert echo == answered


def test_a_browser_gets_a_page_for_a_token_that_opens_something(stage: Stage) -> None:
    url = stage.run("console url show --novnc {vm}")["url"]
    page = requests.get(url, timeout=10)
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert "<main" in page.text
    parts = urlsplit(url)
    for query in ("", f"?token={uuid4()}"):
        assert requests.get(f"http://{parts.netloc}{parts.path}{query}", timeout=10).status_code == 403
