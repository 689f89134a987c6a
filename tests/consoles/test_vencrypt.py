"""Screens of a real QEMU by VNC with TLS: of which host and proxy each show the other a certificate."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cell_service.consoles.connecting import HostSecurity
from cell_service.consoles.passage import REFUSED
from cell_service.consoles.proxy import ConsoleProxy
from cell_service.model.console import ConsolePlace
from tests.consoles.users import proxied, user
from tests.real.databases import wait_until
from tests.suites.certificates import Authority

QEMU = shutil.which("qemu-system-x86_64")
pytestmark = [pytest.mark.real, pytest.mark.skipif(QEMU is None, reason="needs qemu-system-x86_64")]
MARK = "screen-of-web-1"


class Files:
    """Certificates: QEMU's directory, and the proxy's files."""

    def __init__(self, directory: Path) -> None:
        self.host = directory / "host"
        self.host.mkdir()
        self.ours, self.other = Authority(directory, "ours"), Authority(directory, "other")
        self.ours.issue(self.host / "server-cert.pem", self.host / "server-key.pem")
        shutil.copy(self.ours.file, self.host / "ca-cert.pem")
        self.cert, self.key = directory / "client-cert.pem", directory / "client-key.pem"
        self.ours.issue(self.cert, self.key, "proxy")
        self.forged_cert, self.forged_key = directory / "forged-cert.pem", directory / "forged-key.pem"
        self.other.issue(self.forged_cert, self.forged_key, "proxy")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextmanager
def screen(directory: Path, vnc: str, *objects: str) -> Iterator[ConsolePlace]:
    """A guest that does not run, whose screen is at a socket."""
    assert QEMU is not None
    at, log = directory / "vnc.sock", directory / "qemu.log"
    options = [word for each in objects for word in ("-object", each)]
    command = [QEMU, "-name", MARK, "-machine", "pc,accel=tcg", "-m", "32", "-nodefaults", "-vga", "std", "-S",
               "-display", "none", "-vnc", f"unix:{at}{vnc}", *options]  # fmt: skip
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_until(lambda: at.is_socket() or process.poll() is not None, "QEMU does not start")
        assert process.poll() is None, log.read_text("utf-8", "replace")
        yield ConsolePlace(str(at), 0, "")
    finally:
        process.kill()
        process.wait()
        at.unlink(missing_ok=True)


def tls(files: Files, *, verify: bool) -> tuple[str, str]:
    made = f"tls-creds-x509,id=tls0,dir={files.host},endpoint=server,verify-peer={'on' if verify else 'off'}"
    return ",tls-creds=tls0", made


async def seen(proxy: ConsoleProxy) -> str:
    """The name of the screen, which has been drawn once."""
    async with user(proxy) as viewer:
        await viewer.hear(12)
        await viewer.say(b"RFB 003.008\n")
        assert await viewer.hear(2) == b"\1\1"
        await viewer.say(b"\1\1")
        assert await viewer.hear(4) == bytes(4)
        width, height, length = struct.unpack(">HH16xI", await viewer.hear(24))
        name = (await viewer.hear(length)).decode()
        await viewer.say(struct.pack(">BBHi", 2, 0, 1, 0) + struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        kind, rectangles, encoding = struct.unpack(">BxH8xi", await viewer.hear(16))
        assert (kind, encoding) == (0, 0)
        assert rectangles >= 1
        assert width * height > 0
        return name


async def refused(proxy: ConsoleProxy) -> str:
    """The reason that the viewer hears."""
    async with user(proxy) as viewer:
        await viewer.say(b"RFB 003.008\n")
        code, reason, _said = await viewer.closed()
        assert code == REFUSED
        return reason or ""


def test_a_screen_is_seen_by_tls(files: Files, tmp_path: Path) -> None:
    with screen(tmp_path, *tls(files, verify=False)) as place:
        security = HostSecurity(("vencrypt", "none"), ca=str(files.ours.file))
        with proxied(place, "novnc", security) as proxy:
            assert MARK in asyncio.run(seen(proxy))


def test_a_host_with_a_certificate_of_another_authority_is_refused(files: Files, tmp_path: Path) -> None:
    with screen(tmp_path, *tls(files, verify=False)) as place:
        with proxied(place, "novnc", HostSecurity(("vencrypt",), ca=str(files.other.file))) as proxy:
            assert asyncio.run(refused(proxy)).startswith("The host's certificate is not accepted: ")


def test_a_host_may_demand_the_proxys_certificate(files: Files, tmp_path: Path) -> None:
    ca = str(files.ours.file)
    with screen(tmp_path, *tls(files, verify=True)) as place:
        own = HostSecurity(("vencrypt",), ca=ca, cert=str(files.cert), key=str(files.key))
        with proxied(place, "novnc", own) as proxy:
            assert MARK in asyncio.run(seen(proxy))
        forged = HostSecurity(("vencrypt",), ca=ca, cert=str(files.forged_cert), key=str(files.forged_key))
        for other in (HostSecurity(("vencrypt",), ca=ca), forged):
            with proxied(place, "novnc", other) as proxy:
                assert asyncio.run(refused(proxy)).startswith("The host ends TLS")


def test_what_host_and_proxy_do_not_both_have_is_refused(files: Files, tmp_path: Path) -> None:
    with screen(tmp_path, *tls(files, verify=False)) as place, proxied(place, "novnc") as proxy:
        assert "demands VeNCrypt" in asyncio.run(refused(proxy))
    with screen(tmp_path, "") as place:
        with proxied(place, "novnc", HostSecurity(("vencrypt",), ca=str(files.ours.file))) as proxy:
            assert "demands none" in asyncio.run(refused(proxy))
        with proxied(place, "novnc", HostSecurity(("vencrypt", "none"), ca=str(files.ours.file))) as proxy:
            assert MARK in asyncio.run(seen(proxy))
    secret = "secret,id=word,data=letmein"
    with screen(tmp_path, ",password-secret=word", secret) as place, proxied(place, "novnc") as proxy:
        assert "demands a VNC password" in asyncio.run(refused(proxy))
    vnc, made = tls(files, verify=False)
    with screen(tmp_path, f"{vnc},password-secret=word", made, secret) as place:
        with proxied(place, "novnc", HostSecurity(("vencrypt",), ca=str(files.ours.file))) as proxy:
            assert "demands a VNC password" in asyncio.run(refused(proxy))
