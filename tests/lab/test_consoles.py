"""Consoles of real guests in Chromium, at the addresses that the client prints."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clients.browser import PROGRAM, Browser, Page
from tests.clients.installed import Installed
from tests.lab.lab import Guest, Lab

pytestmark = [
    pytest.mark.real,
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed: consoles are not looked at"),
]
LINE = "document.getElementById('line').innerText"
TEXT = r"\033[2J\033[?25l\033[3;1HHello\033[10;40Hfrom the guest"
COLUMNS, ROWS, LETTER = 80, 25, (9, 16)
LIT = """(it => {
  const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
  copy.canvas.width = it.width
  copy.canvas.height = it.height
  copy.drawImage(it, 0, 0)
  const {data, width} = copy.getImageData(0, 0, it.width, it.height)
  const found = new Set()
  data.forEach((value, at) => { if (at % 4 === 0 && value > 100) {
    const pixel = at / 4
    found.add(Math.floor(Math.floor(pixel / width) / 16) * 80 + Math.floor(pixel % width / 9))
  } })
  return [...found].sort((one, other) => one - other)
})(document.querySelector("canvas"))"""
"""The places of the screen, letter by letter, on which something is light."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


def opened(cloud: Lab, browser: Browser, guest: Guest, *kind: str) -> Page:
    """The page at the address that the client prints, for a serial console with http."""
    url = Installed(cloud.installation.state).openstack("console", "url", "show", *kind, guest.uuid)["url"]
    page = browser.open(url.replace("ws", "http", 1) if url.startswith("ws") else url)
    page.until(f"{LINE} === 'connected'")
    return page


def press_enter(page: Page) -> None:
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    page.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
    page.call("Input.dispatchKeyEvent", type="keyUp", **enter)


def test_a_guests_screen_is_seen_and_its_terminal_typed_into(cloud: Lab, browser: Browser) -> None:
    guest = cloud.boot("seen", cloud.hosts[0])
    cloud.until_ready(guest)
    screen, terminal = opened(cloud, browser, guest), opened(cloud, browser, guest, "--serial")
    assert screen.eval("document.getElementById('name').innerText") == guest.name

    cloud.ssh(guest, f"printf '{TEXT}' >/dev/tty1")
    text = cloud.ssh(guest, "cat /dev/vcs1")
    assert "from the guest" in text
    assert len(text) == COLUMNS * ROWS
    written = [place for place, letter in enumerate(text) if letter != " "]
    screen.until(f"JSON.stringify({LIT}) === {json.dumps(json.dumps(written, separators=(',', ':')))}")
    size = screen.eval("(it => [it.width, it.height])(document.querySelector('canvas'))")
    assert size == [COLUMNS * LETTER[0], ROWS * LETTER[1]]

    terminal.call("Input.insertText", text="echo $((6 * 7))-is-the-answer")
    press_enter(terminal)
    terminal.until("document.querySelector('.xterm-rows').innerText.includes('42-is-the-answer')")
    cloud.until_said(guest, "42-is-the-answer")

    cloud.ask("DELETE", f"/servers/{guest.uuid}")
    for page in (screen, terminal):
        page.until(f"{LINE}.includes('opens no console any more') || {LINE}.includes('The server is gone')")
        page.close()


def test_a_console_of_a_guest_that_is_off_is_refused(cloud: Lab) -> None:
    guest = cloud.boot("off", cloud.hosts[1])
    cloud.until_status(guest, "ACTIVE")
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    path = f"/servers/{guest.uuid}/remote-consoles"
    cloud.ask("POST", path, body, expect=(200,))
    cloud.act(guest, "os-stop")
    cloud.until_status(guest, "SHUTOFF")
    cloud.ask("POST", path, body, expect=(409,))
    cloud.act(guest, "os-start")
    cloud.until_status(guest, "ACTIVE")
    cloud.ask("POST", path, body, expect=(200,))
