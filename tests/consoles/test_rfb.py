"""How RFB begins on both sides of the proxy, whatever the host and the viewer speak."""

from __future__ import annotations

import asyncio
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cell_service.consoles.config import Vnc
from cell_service.consoles.connecting import HostSecurity, host_security
from cell_service.consoles.passage import REFUSED
from cell_service.consoles.rfb import Welcome
from cell_service.errors import ConsoleRefused, Invalid
from cell_service.model.console import ConsolePlace
from tests.consoles.users import proxied, user
from tests.suites.certificates import Authority

INIT = b"\1"
"""ClientInit, and what the host of these tests answers to it: no host says as little."""
SERVER = b"server-init"


@pytest.mark.parametrize(
    ("said", "answers", "rest"),
    [
        ([b"RFB 003.008\n", b"\1", b""], [b"\1\1", bytes(4)], b""),
        ([b"RFB 003.889\n", b"\1\1"], [b"\1\1", bytes(4)], b"\1"),
        ([b"RFB 004.001\n", b"\1"], [b"\1\1", bytes(4)], b""),
        ([b"RFB 003.007\n", b"\1"], [b"\1\1", b""], b""),
        ([b"RFB 003.003\n"], [b"\0\0\0\1"], b""),
        ([b"RFB 003.005\n\1"], [b"\0\0\0\1"], b"\1"),
        ([b"RFB 003.008\n\1\1more"], [b"\1\1" + bytes(4)], b"\1more"),
        ([b"RFB 0", b"03.008\n", b"\1"], [b"", b"\1\1", bytes(4)], b""),
    ],
)
def test_a_viewer_of_any_version_is_offered_no_security(said: list[bytes], answers: list[bytes], rest: bytes) -> None:
    welcome = Welcome()
    found = [welcome.answer(each) for each in said if each]
    assert [answer for answer, _over in found] == answers
    assert [over for _answer, over in found] == [False] * (len(found) - 1) + [True]
    assert welcome.rest == rest


@pytest.mark.parametrize(("version", "zeros"), [(b"003.003", 4), (b"003.007", 1), (b"003.008", 1)])
def test_a_viewer_of_any_version_hears_why_it_is_refused(version: bytes, zeros: int) -> None:
    answer, over = Welcome("not you").answer(b"RFB " + version + b"\n")
    assert (answer, over) == (bytes(zeros) + b"\0\0\0\7not you", True)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1", b"RFB 003.abc\n", b"RFB 003.008\n\2", b"RFB 003.008\n\x13"])
def test_what_is_no_viewer_or_wants_other_security_is_refused(said: bytes) -> None:
    with pytest.raises(ConsoleRefused, match="The viewer "):
        Welcome().answer(said)


@contextmanager
def host(script: bytes, *, answers: bytes = SERVER) -> Iterator[tuple[int, queue.Queue[bytes]]]:
    """The port of a host that says all of the script at once, and the answer when it has heard the last byte of
    ClientInit; and what it heard."""
    heard = queue.Queue[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    connection, _peer = listening.accept()
                    with connection, suppress(OSError):
                        connection.sendall(script)
                        said = b""
                        while part := connection.recv(4096):
                            said += part
                            if said.endswith(b"\1\1") or said == b"RFB 003.003\n\1":
                                connection.sendall(answers)
                        heard.put(said)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], heard


def words(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


@pytest.mark.parametrize(
    ("script", "heard"),
    [
        (b"RFB 003.003\n\0\0\0\1", b"RFB 003.003\n\1"),
        (b"RFB 003.005\n\0\0\0\1", b"RFB 003.003\n\1"),
        (b"RFB 003.007\n\2\2\1", b"RFB 003.007\n\1\1"),
        (b"RFB 003.008\n\1\1" + bytes(4), b"RFB 003.008\n\1\1"),
        (b"RFB 003.889\n\2\x13\1" + bytes(4), b"RFB 003.008\n\1\1"),
    ],
)
def test_a_host_of_any_version_is_seen_by_a_viewer_of_the_newest(script: bytes, heard: bytes) -> None:
    async def see(port: int) -> bytes:
        with proxied(ConsolePlace("127.0.0.1", port, ""), "novnc") as proxy:
            async with user(proxy) as seen:
                assert await seen.hear(12) == b"RFB 003.008\n"
                await seen.say(b"RFB 003.008\n")
                assert await seen.hear(2) == b"\1\1"
                await seen.say(b"\1" + INIT)
                assert await seen.hear(4) == bytes(4)
                return await seen.hear(len(SERVER))

    with host(script) as (port, found):
        assert asyncio.run(see(port)) == SERVER
        assert found.get(timeout=60) == heard


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (b"RFB 003.008\n\1\2", "The host demands a VNC password, which the proxy does not offer."),
        (
            b"RFB 003.008\n\2\x13\x12",
            "The host demands VeNCrypt or TLS, which the proxy does not offer.",
        ),
        (b"RFB 003.003\n\0\0\0\2", "The host demands a VNC password, which the proxy does not offer."),
        (b"RFB 003.008\n\0" + words(b"too many"), "The host refuses: too many"),
        (b"RFB 003.003\n" + bytes(4) + words(b"no"), "The host refuses: no"),
        (b"RFB 003.008\n\1\1\0\0\0\1" + words(b"not now"), "The host refuses: not now"),
        (b"RFB 003.008\n\0\xff\xff\xff\xff", "The host refuses: no reason"),
        (b"SSH-2.0-Open\r\n", "The host's console is no screen by VNC."),
    ],
)
@pytest.mark.parametrize("version", [b"RFB 003.008\n", b"RFB 003.003\n"])
def test_a_viewer_hears_what_host_and_proxy_do_not_agree_on(
    script: bytes, reason: str, version: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def see(port: int) -> tuple[int | None, str | None, bytes]:
        with proxied(ConsolePlace("127.0.0.1", port, ""), "novnc") as proxy:
            async with user(proxy) as seen:
                assert await seen.hear(12) == b"RFB 003.008\n"
                await seen.say(version)
                ended = await seen.closed()
                assert proxy.open == 0
                return ended

    with host(script) as (port, _heard):
        zeros = bytes(1 if version == b"RFB 003.008\n" else 4)
        assert asyncio.run(see(port)) == (REFUSED, reason, zeros + words(reason.encode()))
    found = [str(vars(each)["about"]["reason"]) for each in caplog.records if each.message == "console not opened"]
    assert found == [reason]


def test_a_viewer_that_wants_what_it_is_not_offered_is_closed() -> None:
    async def see(port: int) -> tuple[int | None, str | None, bytes]:
        with proxied(ConsolePlace("127.0.0.1", port, ""), "novnc") as proxy:
            async with user(proxy) as seen:
                await seen.say(b"RFB 003.008\n\2")
                return await seen.closed()

    with host(b"RFB 003.008\n\1\1" + bytes(4)) as (port, _heard):
        code, reason, _said = asyncio.run(see(port))
    assert (code, reason) == (REFUSED, "The viewer wants security that the proxy does not offer.")


def test_what_a_host_begins_with_tls_and_says_in_clear_is_refused(tmp_path: Path) -> None:
    script = b"RFB 003.008\n\1\x13\0\2\0\1\0\0\1\4\1" + b"clear text"

    async def see(port: int) -> tuple[int | None, str | None, bytes]:
        security = HostSecurity(("vencrypt",), ca=str(Authority(tmp_path).file))
        with proxied(ConsolePlace("127.0.0.1", port, ""), "novnc", security) as proxy:
            async with user(proxy) as seen:
                await seen.say(b"RFB 003.008\n")
                return await seen.closed()

    with host(script) as (port, _heard):
        code, reason, _said = asyncio.run(see(port))
    assert code == REFUSED
    assert (reason or "").startswith(("The host does not speak RFB", "There is no TLS with the host"))


@pytest.mark.parametrize(
    ("vnc", "reason"),
    [
        (Vnc(auth_schemes=()), "auth_schemes is empty"),
        (Vnc(auth_schemes=("vencrypt",)), "vencrypt_ca_certs is not set"),
        (Vnc(auth_schemes=("vencrypt",), vencrypt_ca_certs="/none.pem"), "/none.pem cannot be used"),
        (Vnc(vencrypt_client_key="/key.pem"), "vencrypt_client_cert is not set"),
    ],
)
def test_settings_that_cannot_be_used_are_found_at_the_start(vnc: Vnc, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        host_security(vnc)
