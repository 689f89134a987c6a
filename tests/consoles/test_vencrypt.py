"""Consoles of a real QEMU by TLS, for which host and proxy each may have to show a certificate."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cell_service.consoles.connecting import HostSecurity
from cell_service.consoles.passage import REFUSED
from cell_service.consoles.proxy import UNREADABLE, ConsoleProxy
from cell_service.model.console import ConsolePlace
from tests.consoles.users import proxied, user
from tests.real.databases import free_port, wait_until
from tests.real.listening import listens
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
    at = directory / "vnc.sock"
    options = [word for each in objects for word in ("-object", each)]
    with qemu(directory, at, "-name", MARK, "-vga", "std", "-S", "-vnc", f"unix:{at}{vnc}", *options):
        yield ConsolePlace(str(at), 0, "")
    at.unlink(missing_ok=True)


@contextmanager
def qemu(directory: Path, at: Path | int, *options: str) -> Iterator[None]:
    """A QEMU that listens there."""
    assert QEMU is not None
    log = directory / "qemu.log"
    command = [QEMU, "-machine", "pc,accel=tcg", "-m", "32", "-nodefaults", "-display", "none", *options]  # fmt: skip
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_until(lambda: listens(at) or process.poll() is not None, "QEMU does not start")
        assert process.poll() is None, log.read_text("utf-8", "replace")
        yield
    finally:
        process.kill()
        process.wait()


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


ECHO = bytes.fromhex("ba fd 03 ec a8 01 74 f8 ba f8 03 ec ee eb f2")
"""again: mov dx, 3fd; in al, dx; test al, 1; jz again; mov dx, 3f8; in al, dx; out dx, al; jmp again."""


def test_a_serial_console_is_reached_by_tls(files: Files, tmp_path: Path) -> None:
    port, (_vnc, made), disk = free_port(), tls(files, verify=True), tmp_path / "disk"
    disk.write_bytes(ECHO.ljust(510, b"\0") + b"\x55\xaa")
    line = f"socket,id=line,host=127.0.0.1,port={port},server=on,wait=off,tls-creds=tls0"
    options = ("-object", made, "-chardev", line, "-serial", "chardev:line", "-drive", f"file={disk},format=raw")
    place = ConsolePlace("127.0.0.1", port, "", tls_port=port)
    own = HostSecurity(ca=str(files.ours.file), cert=str(files.cert), key=str(files.key))

    async def echo(proxy: ConsoleProxy) -> bytes:
        async with user(proxy) as typist:
            await typist.say(b"x" * 100)  # what comes before the guest listens may be lost
            return await typist.hear(1)

    async def closed(proxy: ConsoleProxy) -> tuple[int | None, str | None]:
        async with user(proxy) as typist:
            return (await typist.closed())[:2]

    with qemu(tmp_path, port, *options):
        with proxied(place, "serial", own) as proxy:
            assert asyncio.run(echo(proxy)) == b"x"
        with proxied(place, "serial", replace(own, ca=str(files.other.file))) as proxy:
            code, reason = asyncio.run(closed(proxy))
            assert code == REFUSED
            assert "The host's certificate is not accepted" in (reason or "")
        with proxied(place, "serial") as proxy:
            assert asyncio.run(closed(proxy)) == (REFUSED, UNREADABLE)


def test_a_spice_console_is_reached_by_tls(files: Files, tmp_path: Path) -> None:
    port = free_port()
    spice = f"addr=127.0.0.1,tls-port={port},x509-dir={files.host},disable-ticketing=on"
    hello = b"REDQ" + struct.pack("<IIIIBBIII", 2, 2, 18, 0, 1, 0, 0, 0, 18)  # a SPICE client's, of the main channel
    place = ConsolePlace("127.0.0.1", 0, "", tls_port=port)

    async def answer(proxy: ConsoleProxy) -> bytes:
        async with user(proxy) as client:
            await client.say(hello)
            return await client.hear(4)

    with qemu(tmp_path, port, "-vga", "std", "-S", "-spice", spice):
        with proxied(place, "spice-html5", HostSecurity(ca=str(files.ours.file))) as proxy:
            assert asyncio.run(answer(proxy)) == b"REDQ"
