"""Requests that are wrong below the JSON: lengths that lie, broken chunks, odd headers. Each gets a 4xx or a closed
connection, at once, and the service goes on."""

from __future__ import annotations

import errno
import json
import socket
from urllib.parse import quote

import pytest

from tests.surface.world import World

KEYS = json.dumps({"keypair": {"name": "wire"}}).encode()


def spoken(world: World, raw: bytes, *, ended: bool = True) -> int | None:
    """The status of the answer to these very bytes; None where the connection is closed without any."""
    with socket.create_connection(("127.0.0.1", world.cloud.api.port), timeout=15) as line:
        try:
            line.sendall(raw)
            if ended:
                line.shutdown(socket.SHUT_WR)
            answer = line.recv(65536)
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                return None
            raise
    return int(answer.split(b" ", 2)[1]) if answer else None


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/v2.1/os-keypairs") -> bytes:
    head = [b"POST " + path + b" HTTP/1.1", b"Host: here", b"X-Auth-Token: wire:wires-project", *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "raw",
    [
        post(b"Content-Length: 5000", body=KEYS),
        post(b"Content-Length: 3", body=KEYS),
        post(b"Content-Length: -1", body=KEYS),
        post(b"Content-Length: x", body=KEYS),
        post(b"Content-Length: 99999999999999999999", body=KEYS),
        post(b"Content-Length: 10", b"Content-Length: 20", body=KEYS),
        post(b"Content-Length: 10", b"Transfer-Encoding: chunked", body=b"5\r\n{\"a\":\r\n0\r\n\r\n"),
        post(b"Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
        post(b"Transfer-Encoding: chunked", body=b"ffffffffff\r\n{}\r\n0\r\n\r\n"),
        post(b"Transfer-Encoding: chunked", body=b"5\r\n{}\r\n"),
        post(b"Transfer-Encoding: gzip, chunked", body=b"2\r\n{}\r\n0\r\n\r\n"),
        post(b"X-Odd: " + b"a" * 200_000),
        post(*(b"X-Odd-%d: a" % number for number in range(5000))),
        post(b"No colon here"),
        post(b"X-Null: a\x00b", b"Content-Length: 2", body=b"{}"),
        post(b"Content-Length: 2", body=b"{}", path=b"/v2.1/os-keypairs\x00"),
        post(b"Content-Length: 2", body=b"{}", path=b"/v2.1/" + b"a" * 100_000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_nothing_else_suffers(world: World, raw: bytes) -> None:
    status = spoken(world, raw)
    assert status is None or 400 <= status < 500
    assert world.admin.get("/os-keypairs").status == 200
    assert world.cloud.user("wire", "wires-project").get("/os-keypairs").json == {"keypairs": []}


def test_a_chunked_body_is_a_body(world: World) -> None:
    raw = post(b"Transfer-Encoding: chunked", b"Content-Type: application/json",
               body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(KEYS), KEYS))  # fmt: skip
    assert spoken(world, raw, ended=False) in (200, 201)
    assert world.cloud.user("wire", "wires-project").delete("/os-keypairs/wire").status == 202


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("compute 2.105", 406), ("compute 3.0", 406), ("compute 2.0", 406), ("compute 2", 400), ("compute 2.1.1", 400),
        ("compute x", 400), ("compute 2.-1", 400), ("compute " + "9" * 5000, 400), ("compute 2.01", 400),
        ("compute", 400), ("compute 2.1\t", 200), ("volume 3.0", 200), ("compute latest", 200), ("", 200),
    ],
)  # fmt: skip
def test_odd_microversions(world: World, version: str, status: int) -> None:
    reply = world.admin.get("/os-keypairs", headers={"OpenStack-API-Version": version})
    assert reply.status == status, reply.raw


@pytest.mark.parametrize(
    "raw",
    [
        b"{" * 5000, b"[" * 100_000, b'{"keypair":' * 900 + b"1" + b"}" * 900, b"\xff\xfe{}", b"\x00" * 64,
        b'{"a":NaN}',
        '{"keypair":{"name":"a"}}'.encode("utf-16"), '{"keypair":{"name":"a"}}'.encode("utf-32"), b'{"a":1e999}',
        b'{"keypair":{"name":"\\ud800"}}', b'{"keypair":{"name":"\\u0000"}}', b'{"a":' + b"9" * 5000 + b"}",
        b'{"keypair":{"name":"' + b"a" * 5000 + b'"}}', b'{"keypair":{"name":"a\\nb"}}', b'{"keypair":{"name":" "}}',
        b'{"keypair":{"name":"a"},"keypair":{"name":1}}', b'{"keypair":[]}', b'"keypair"', b"true",
    ],
)  # fmt: skip
def test_bodies_that_are_no_key_pair(world: World, raw: bytes) -> None:
    user = world.cloud.user("wire", "wires-project")
    assert user.request("POST", "/os-keypairs", raw).status == 400
    assert user.get("/os-keypairs").json == {"keypairs": []}


@pytest.mark.parametrize("kind", ["text/xml", "application/x-www-form-urlencoded", "multipart/form-data", "a" * 5000])
def test_bodies_of_other_kinds(world: World, kind: str) -> None:
    user = world.cloud.user("wire", "wires-project")
    assert user.request("POST", "/os-keypairs", KEYS, headers={"Content-Type": kind}).status in (400, 415)
    assert user.get("/os-keypairs").json == {"keypairs": []}


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-13-01", "NaN", "\x00"]
)
@pytest.mark.parametrize("path", ["/servers?changes-since=", "/os-migrations?changes-since=", "/images?changes-since=",
                                  "/servers?changes-before=", "/os-simple-tenant-usage?detailed=1&start="])  # fmt: skip
def test_times_that_there_are_not(world: World, path: str, time: str) -> None:
    reply = world.admin.get(path + quote(time), version="2.35" if path.startswith("/images") else "2.96")
    assert reply.status == 400, reply.raw


@pytest.mark.parametrize("number", ["9" * 4500, "-1", "1e5", "0x10", "99999999999999999999", "٣"])
@pytest.mark.parametrize("path", ["/servers?limit=", "/servers/detail?limit=", "/flavors?minRam=", "/flavors?limit=",
                                  "/os-server-groups?offset=", "/os-keypairs?limit=", "/os-migrations?limit=",
                                  "/os-hypervisors?limit=", "/os-simple-tenant-usage?limit="])  # fmt: skip
def test_numbers_that_are_none(world: World, path: str, number: str) -> None:
    reply = world.admin.get(path + quote(number), version="2.96")
    assert reply.status in (200, 400), reply.raw
