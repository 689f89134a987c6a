"""Bad input on every served route: never a 5xx, never a hang, never somebody else's data.

A fixed number of requests from a fixed seed; POLYCELL_FUZZ_REQUESTS and POLYCELL_FUZZ_SEED ask for more and others.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any
from urllib.parse import quote

import pytest

from tests.edge.client import Client
from tests.surface.report import served
from tests.surface.world import World, rows

pytestmark = pytest.mark.wide

REQUESTS = int(os.environ.get("POLYCELL_FUZZ_REQUESTS", "1000"))
ODD: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 2**200, 1e308, -0.5, "", " ", "a" * 70_000, "\x00", "\x1b[31m\n", "\u202e\ud7ff",
    "\U0001f600" * 90, "%00", "../../etc/passwd", "' OR 1=1 --", "${x}", "1e999", "2026-13-45T99:00:00Z", [], [[]], {},
    {"": ""}, [None], {"a": {"b": {"c": [1]}}}, "00000000-0000-0000-0000-000000000000", "auto", "none",
]  # fmt: skip
IDS = [
    "0",
    "-1",
    "x" * 4000,
    "%00",
    "%ff%fe",
    "..",
    "%2e%2e%2f",
    "'",
    "%F0%9F%98%80",
    "9" * 400,
    "a%0Ab",
    "%20",
    "null",
]
RAW = [
    b"", b"{", b"[]", b"null", b'"x"', b'{"a":1,"a":2}', b"\xff\xfe{}", b"{" * 5000, b"[" * 50_000, b'{"server":' * 900,
    b'{"a":' + b"9" * 5000 + b"}", b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', b"\x00" * 64,
    "{\"a\":1}".encode("utf-16"), b"\xef\xbb\xbf{}", b"a" * 120_000,
]  # fmt: skip
SERVED = [row for row in rows() if not row.data["removed"] and served(row)]


def twisted(body: Any, chance: random.Random) -> Any:
    """The body with one thing in it that is odd, too much, or missing."""
    if isinstance(body, dict) and body and chance.random() < 0.8:
        name = chance.choice(sorted(body))
        made = dict(body)
        how = chance.random()
        if how < 0.1:
            del made[name]
        elif how < 0.2:
            made[chance.choice(["", "x" * 300, "\x00", "__proto__"])] = made[name]
        else:
            made[name] = twisted(body[name], chance)
        return made
    if isinstance(body, list) and body and chance.random() < 0.7:
        return [twisted(body[0], chance), *body[1:]] * chance.choice([1, 1, 200])
    return chance.choice(ODD)


def bad_path(path: str, chance: random.Random) -> str:
    """The path with an odd thing for one of its ids, or an odd query after it."""
    parts = path.split("/")
    if len(parts) > 2 and chance.random() < 0.3:
        parts[chance.choice(range(2, len(parts)))] = chance.choice(IDS)
    made = "/".join(parts)
    if chance.random() < 0.4:
        names = ["limit", "marker", "sort_key", "name", "status", "changes-since", "host", "ip", "start", "x" * 500,
                 "%00",
                 "all_tenants", "deleted", "tags", "user_id", "is_public", "minRam", "offset", "detailed"]  # fmt: skip
        value = chance.choice(ODD)
        text = value if isinstance(value, str) else json.dumps(value)
        made += f"?{chance.choice(names)}={quote(text[:3000])}"
    return made


@pytest.mark.parametrize("who", ["admin", "mallory"])
def test_nothing_breaks_the_service(own_world: World, who: str) -> None:
    world = own_world
    seed = int(os.environ.get("POLYCELL_FUZZ_SEED", "1"))
    chance, client = random.Random(seed), Client(world.cloud.api.port, token=f"{who}:{who}-project")
    server = world.server()
    wrong: dict[str, str] = {}
    for _ in range(REQUESTS):
        row = chance.choice(SERVED)
        method, _, _ = row.key
        version = chance.choice(row.versions)
        path = bad_path(row.data["path"].replace("{", "").replace("}", ""), chance)
        if chance.random() < 0.5 and "/servers/" in path:
            path = path.replace("/servers/id", f"/servers/{server}").replace("/servers/server_id", f"/servers/{server}")
        body: Any = None
        if method in ("POST", "PUT"):
            body = twisted(world.body(row, version), chance) if chance.random() < 0.7 else chance.choice(RAW)
        kinds = ["application/json", "application/json; charset=utf-16", "text/xml", ""]
        headers = {"Content-Type": chance.choice(kinds)} if chance.random() < 0.1 else {}
        before = world.cloud.clock.monotonic()
        try:
            reply = client.request(method, path, body, version=version, headers=headers)
        except ConnectionError:  # too large: answered and closed before all of it was sent
            client.close()
            continue
        said = f"seed {seed}: {method} {path[:200]} {version} {str(body)[:400]} -> {reply.status} {reply.raw[:200]!r}"
        broken = reply.status >= 500 and not (reply.status == 501 and 501 in row.allowed())
        foreign = who == "mallory" and reply.status < 300 and b"admin-project" in reply.raw
        if broken or foreign or world.cloud.clock.monotonic() - before > 20:
            wrong[row.name] = said
    assert not wrong, "\n".join(wrong.values())
    assert world.admin.get(f"/servers/{server}").status == 200 or who == "admin"
    world.reset()


def test_what_is_refused_changes_nothing(world: World) -> None:
    server = world.server()
    stranger = world.cloud.user("mallory", "mallory-project")
    asked = []
    for row in SERVED:
        if row.data["path"].startswith("/servers/{") and row.data["method"] != "GET":
            path = row.data["path"].replace("{id}", server, 1).replace("{server_id}", server).replace("{id}", "x")
            asked.append((row.data["method"], path, world.body(row, row.versions[-1]), row.versions[-1]))
    world.quiet()  # some bodies speak of what the server has been given for them
    before = world.admin.get(f"/servers/{server}", version="2.104").json
    for method, path, body, version in asked:
        assert stranger.request(method, path, body, version=version).status in (400, 403, 404)
    assert world.admin.get(f"/servers/{server}", version="2.104").json == before
