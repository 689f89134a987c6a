"""What a port grants its clients: time for a head and a body, the length of a head, connections, and TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import requests

from api_cell.edge.auth import NoAuth
from cell_service.config import load
from cell_service.errors import Invalid
from cell_service.http.connections import HEAD_BYTES, ConnectionSettings, read_connections
from cell_service.http.exchange import Exchange
from cell_service.http.front import Front, Respond
from cell_service.http.response import RenderedResponse
from tests.edge.conftest import Serve
from tests.edge.test_drain import answer
from tests.real.databases import wait_until
from tests.suites.certificates import certificate
from tools.companions.image.service import make_image

HURRIED = ConnectionSettings(seconds=0.2)
PATIENT = ConnectionSettings(seconds=2.0)
"""For tests in which something must come in time, also on a busy machine."""
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /v2.1/th",
        GET[:-2],
        b"POST /v2.1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        b"POST /v2.1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["idle", "line", "head", "body", "chunks"],
)
def test_a_connection_that_takes_too_long_is_closed(serve: Serve, sent: bytes) -> None:
    server, _ = serve(connections=HURRIED)
    with connected(server.port) as slow:
        slow.sendall(sent)
        assert answer(slow) == b""


def test_a_connection_that_idles_after_an_answer_is_closed(serve: Serve) -> None:
    server, _ = serve(connections=PATIENT)
    with connected(server.port) as idle:
        idle.sendall(GET)
        found = answer(idle)
    assert found.startswith(b"HTTP/1.1 200")
    assert found.count(b"HTTP/1.1") == 1


def test_a_file_that_comes_too_slowly_is_cut(tmp_path: Path) -> None:
    image = make_image(tmp_path, NoAuth())
    image.start(settings=PATIENT)
    try:
        headers = {"X-Auth-Token": "admin:p"}
        body = {"name": "i", "disk_format": "raw", "container_format": "bare"}
        made = requests.post(f"{image.url}/v2/images", json=body, headers=headers, timeout=60).json()
        with connected(image.port) as slow:
            head = f"PUT /v2/images/{made['id']}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: admin:p\r\n"
            more = "Content-Type: application/octet-stream\r\nContent-Length: 100000\r\n\r\nsome"
            slow.sendall((head + more).encode())
            assert answer(slow) == b""
        shown = requests.get(f"{image.url}/v2/images/{made['id']}", headers=headers, timeout=60).json()
        assert shown["status"] == "queued"
    finally:
        image.drain(0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v2.1/things?name=" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET /v2.1/things HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 8000 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"POST /v2.1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Long: " + b"x" * HEAD_BYTES
         + b"\r\n\r\n{}", b"431"),
        (b"HEAD /?" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
    ],
)  # fmt: skip
def test_a_head_that_is_too_long_is_answered(serve: Serve, head: bytes, status: bytes) -> None:
    server, client = serve()
    with connected(server.port) as long:
        long.sendall(head)
        found = answer(long)
    assert found.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in found
    assert server.open_requests == 0
    assert client.get("/things/7").status == 200


def test_a_head_that_just_fits_is_served(serve: Serve) -> None:
    server, _ = serve()
    with connected(server.port) as long:
        long.sendall(GET[:-2] + b"Connection: close\r\nX-Long: " + b"x" * (HEAD_BYTES - 200) + b"\r\n\r\n")
        assert answer(long).startswith(b"HTTP/1.1 200")


def test_a_client_has_so_many_connections_and_no_more(serve: Serve) -> None:
    server, _ = serve(connections=ConnectionSettings(per_client=2))

    def opened() -> tuple[socket.socket, bytes]:
        made = connected(server.port)
        try:
            made.sendall(GET)
            return made, made.recv(12)
        except ConnectionError:
            return made, b""

    (first, one), (second, two), (third, three) = opened(), opened(), opened()
    assert (one, two, three) == (b"HTTP/1.1 200", b"HTTP/1.1 200", b"")
    first.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer(first)
    others: list[socket.socket] = []

    def served() -> bool:
        others.append((made := opened())[0])
        return made[1] == b"HTTP/1.1 200"

    wait_until(served, "another connection is never served")
    for each in (first, second, third, *others):
        each.close()


LARGE = 24 << 20
"""More than the kernel keeps of a connection."""


class Large:
    """An application whose answers are large: bytes in memory, or a file's."""

    most_bytes = 1000

    def __init__(self, response: RenderedResponse) -> None:
        self.response = response

    def begin(self, exchange: Exchange) -> None:
        """It needs nothing of the head."""

    def serve(self, exchange: Exchange, respond: Respond) -> None:
        respond(self.response)

    def end(self, exchange: Exchange) -> None:
        """It keeps nothing."""

    def close(self) -> None:
        """It has nothing."""


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_client_that_does_not_read_its_answer_is_cut(tmp_path: Path, kind: str) -> None:
    (tmp_path / "large").write_bytes(bytes(LARGE))
    of_file = RenderedResponse(200, file=tmp_path / "large")
    front = Front("large", Large(of_file if kind == "file" else RenderedResponse(200, body=bytes(LARGE))))
    front.start(settings=ConnectionSettings(seconds=PATIENT.seconds, per_client=1))
    slow = connected(front.port)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    try:
        slow.sendall(GET)
        assert slow.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: is_served(front.port), "the connection that is not read is never closed")
        assert length(slow) < LARGE
        wait_until(lambda: not front.open_requests, "a request is never over")
    finally:
        slow.close()
        front.drain(0)


def test_an_answer_that_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    front = Front("large", Large(RenderedResponse(200, body=bytes(LARGE))))
    front.start(settings=PATIENT)
    try:
        with connected(front.port) as steady:
            steady.sendall(GET[:-2] + b"Connection: close\r\n\r\n")
            assert length(steady) > LARGE
    finally:
        front.drain(0)


def length(connection: socket.socket) -> int:
    """How much comes until the server hangs up."""
    found = 0
    try:
        while chunk := connection.recv(1 << 20):
            found += len(chunk)
    except ConnectionError:
        return found
    return found


def is_served(port: int) -> bool:
    """Whether another connection is answered."""
    with connected(port) as other:
        try:
            other.sendall(GET)
            return other.recv(12) == b"HTTP/1.1 200"
        except ConnectionError:
            return False


# -- TLS ------------------------------------------------------------------------------------------


def settings(directory: Path, text: str) -> ConnectionSettings:
    conf = directory / "nova.conf"
    conf.write_text(text, encoding="utf-8")
    return read_connections(load([str(conf)]))


def test_with_a_certificate_a_service_speaks_tls(serve: Serve, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    secured = settings(tmp_path, f"[ssl]\ncert_file = {cert_file}\nkey_file = {key_file}\n")
    server, _ = serve(connections=secured)
    url = f"https://localhost:{server.port}"
    shown = requests.get(f"{url}/v2.1/", verify=str(cert_file), timeout=60).json()
    assert shown["version"]["links"][0]["href"] == f"{url}/v2.1/"
    with connected(server.port) as plain:
        plain.sendall(GET)
        assert b"200" not in answer_or_reset(plain)


def test_clients_show_a_certificate_where_that_is_demanded(serve: Serve, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    text = f"[ssl]\ncert_file = {cert_file}\nkey_file = {key_file}\nca_file = {cert_file}\n"
    server, _ = serve(connections=settings(tmp_path, text))
    url = f"https://localhost:{server.port}/healthz"
    own = (str(cert_file), str(key_file))
    assert requests.get(url, verify=str(cert_file), cert=own, timeout=60).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(url, verify=str(cert_file), timeout=60)


def test_a_handshake_that_never_ends_is_closed(serve: Serve, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert_file, key_file)
    server, _ = serve(connections=ConnectionSettings(seconds=0.2, tls=context))
    with connected(server.port) as slow:
        slow.sendall(b"\x16\x03")
        assert answer(slow) == b""


@pytest.mark.parametrize("text", ["[ssl]\nkey_file = k\n", "[ssl]\ncert_file = /nothing\n", "[ssl]\nca_file = c\n"])
def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match=r"\[ssl\]"):
        settings(tmp_path, text)


def test_limits_are_read_from_the_files(tmp_path: Path) -> None:
    found = settings(tmp_path, "[wsgi]\nclient_socket_timeout = 900\nmax_connections_per_client = 0\n")
    assert (found.seconds, found.per_client, found.tls) == (900, 0, None)


def answer_or_reset(connection: socket.socket) -> bytes:
    try:
        return answer(connection)
    except ConnectionError:
        return b""
