"""The key manager companion, as castellan and others use it."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from api_cell.edge.auth import NoAuth
from cell_service.db.sealing import new_key
from cell_service.errors import KeyNotFound, PeerUnavailable, SecretsUnreadable
from cell_service.peers.castellan_keys import open_keys
from cell_service.peers.keys import Keys
from cell_service.peers.settings import BarbicanSettings, KeyManagerSettings
from tools.companions.app import Companion
from tools.companions.keys.service import make_keys

SECRET = b"\x00a secret of thirty-two bytes...\xff"


@pytest.fixture
def companion(tmp_path: Path) -> Iterator[Companion]:
    made = make_keys(tmp_path, NoAuth())
    made.start()
    yield made
    made.drain(2)


def send(companion: Companion, method: str, path: str, body: Any = None, by: str = "one:p1", **more: Any) -> Any:
    headers = {"X-Auth-Token": by, **more.pop("headers", {})}
    url = path if path.startswith("http") else f"{companion.url}/v1{path}"
    return requests.request(method, url, json=body, headers=headers, timeout=30, **more)


def stored(companion: Companion, by: str = "one:p1", **fields: Any) -> str:
    """The URL of a secret."""
    encoded = base64.b64encode(SECRET).decode()
    usual = {"name": "s", "payload": encoded, "payload_content_type": "application/octet-stream",
             "payload_content_encoding": "base64"}  # fmt: skip
    answer = send(companion, "POST", "/secrets/", {**usual, **fields}, by)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret_ref"])


def keys_of(companion: Companion) -> Keys:
    pytest.importorskip("castellan", reason="needs castellan")
    made = open_keys(BarbicanSettings(auth_type="none", endpoint_override=companion.url), KeyManagerSettings())
    assert made is not None
    assert made.are_reachable
    return made


def test_castellan_makes_copies_reads_and_deletes_keys(companion: Companion) -> None:
    keys = keys_of(companion)
    made = keys.create("aes", 256)
    copied = keys.copy(made)
    assert (len(keys.get(made)), keys.get(copied) == keys.get(made), made != copied) == (32, True, True)
    other = keys.create("aes", 128)
    assert len(keys.get(other)) == 16
    for _ in range(2):
        keys.delete(made)
    assert len(keys.get(copied)) == 32
    for gone in (made, "no uuid"):
        with pytest.raises(KeyNotFound, match=f"Key {gone} is not in the key manager"):
            keys.get(gone)
    assert send(companion, "GET", "/orders", by="admin:service").json()["orders"] == []


def test_a_key_manager_that_is_away_or_refuses_us_is_said_so(companion: Companion, tmp_path: Path) -> None:
    keys = keys_of(companion)
    theirs = stored(companion).rpartition("/")[2]
    with pytest.raises(PeerUnavailable, match="refuses our account"):
        keys.get(theirs)
    settings = BarbicanSettings(auth_type="none", endpoint_override="http://127.0.0.1:9")
    away = open_keys(settings, KeyManagerSettings())
    assert away is not None
    with pytest.raises(PeerUnavailable, match="key manager service does not answer: no connection"):
        away.create("aes", 256)


def test_a_section_without_an_account_is_no_key_manager() -> None:
    assert open_keys(BarbicanSettings(), KeyManagerSettings()) is None


def test_options_of_castellan_mean_those_of_every_service() -> None:
    settings = BarbicanSettings(
        barbican_endpoint="http://k", barbican_endpoint_type="admin", barbican_region_name="R", verify_ssl=False,
        verify_ssl_path="/ca",
    ).in_common_words()  # fmt: skip
    assert (settings.endpoint_override, settings.valid_interfaces, settings.region_name) == (
        "http://k", ("admin", "internal", "public"), "R",
    )  # fmt: skip
    assert (settings.insecure, settings.cafile) == (True, "/ca")


def test_a_payload_comes_back_as_it_was_given_to_who_may_have_it(companion: Companion) -> None:
    one = stored(companion)
    answer = send(companion, "GET", f"{one}/payload", headers={"Accept": "application/octet-stream"})
    assert (answer.content, answer.headers["Content-Type"]) == (SECRET, "application/octet-stream")
    assert send(companion, "GET", f"{one}/payload", headers={"Accept": "text/plain"}).status_code == 406
    shown = send(companion, "GET", one).json()
    assert (shown["content_types"], shown["status"]) == ({"default": "application/octet-stream"}, "ACTIVE")
    assert "payload" not in str(shown.keys())
    text = stored(companion, payload="words", payload_content_type="text/plain; charset=utf-8",
                  payload_content_encoding=None)  # fmt: skip
    assert send(companion, "GET", f"{text}/payload").text == "words"
    for by in ("one:p2", "admin:p2"):
        for path in (one, f"{one}/payload", f"{one}/acl"):
            assert send(companion, "GET", path, by=by).status_code == 403
        assert send(companion, "DELETE", one, by=by).status_code == 403
        assert send(companion, "GET", "/secrets", by=by).json() == {"secrets": [], "total": 0}
    assert send(companion, "GET", "/secrets").json()["total"] == 2
    assert send(companion, "DELETE", one).status_code == 204
    assert send(companion, "GET", one).status_code == 404


def test_access_lists(companion: Companion) -> None:
    """A secret is its creator's alone, or its project's, and of the users that are named."""
    one = stored(companion, by="one:p1")
    read = {"read": {"project-access": False, "users": ["guest"]}}
    assert send(companion, "PUT", f"{one}/acl", read).json() == {"acl_ref": f"{one}/acl"}
    assert send(companion, "GET", f"{one}/payload", by="member:p1").status_code == 403
    assert send(companion, "GET", f"{one}/payload", by="guest:p2").status_code == 200
    assert send(companion, "GET", f"{one}/payload").status_code == 200
    assert send(companion, "PUT", f"{one}/acl", read, by="guest:p2").status_code == 403
    assert send(companion, "PATCH", f"{one}/acl", {"read": {"users": []}}).status_code == 200
    assert send(companion, "GET", f"{one}/acl").json()["read"]["project-access"] is False
    assert send(companion, "GET", f"{one}/payload", by="guest:p2").status_code == 403
    assert send(companion, "DELETE", f"{one}/acl").status_code == 200
    assert send(companion, "GET", f"{one}/payload", by="member:p1").status_code == 200


def test_a_payload_that_comes_later_never_changes(companion: Companion) -> None:
    answer = send(companion, "POST", "/secrets", {"name": "later"})
    one = answer.json()["secret_ref"]
    assert send(companion, "GET", f"{one}/payload").status_code == 404
    for expected in (204, 409):
        kind = {"Content-Type": "application/octet-stream"}
        assert send(companion, "PUT", one, data=SECRET, headers=kind).status_code == expected
    assert send(companion, "GET", f"{one}/payload").content == SECRET


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/secrets", {"payload": "x"}, 415),
        ("/secrets", {"payload": "x", "payload_content_type": "application/pdf"}, 415),
        ("/secrets", {"payload": "x", "payload_content_type": "application/octet-stream"}, 400),
        ("/secrets", {"payload": "?", "payload_content_type": "application/octet-stream",
                      "payload_content_encoding": "base64"}, 400),
        ("/secrets", {"payload": ""}, 400),
        ("/secrets", {"secret_type": "odd"}, 400),
        ("/secrets", {"expiration": "yesterday"}, 400),
        ("/secrets", {"expiration": "2001-01-01T00:00:00"}, 400),
        ("/orders", {"type": "key"}, 400),
        ("/orders", {"type": "asymmetric", "meta": {"algorithm": "rsa", "bit_length": 2048}}, 400),
        ("/orders", {"type": "key", "meta": {"algorithm": "aes"}}, 400),
        ("/orders", {"type": "key", "meta": {"algorithm": "aes", "bit_length": 9}}, 400),
    ],
)  # fmt: skip
def test_odd_requests_are_refused(companion: Companion, path: str, body: dict[str, Any], status: int) -> None:
    answer = send(companion, "POST", path, body)
    assert (answer.status_code, set(answer.json())) == (status, {"code", "title", "description"})


def test_a_secret_ends_at_its_time(companion: Companion) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert send(companion, "GET", stored(companion, expiration=until)).json()["expiration"] == until


def test_payloads_are_sealed_with_the_operators_keys(tmp_path: Path) -> None:
    keys = [new_key()]
    made = make_keys(tmp_path, NoAuth(), keys)
    made.start()
    one = stored(made)
    made.drain(2)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert all(each not in content for each in (SECRET, base64.b64encode(SECRET)))
    with pytest.raises(SecretsUnreadable):
        make_keys(tmp_path, NoAuth(), [new_key()])
    again = make_keys(tmp_path, NoAuth(), [new_key(), *keys])
    again.start()
    path = f"/secrets/{one.rpartition('/')[2]}/payload"
    assert send(again, "GET", path).content == SECRET
    again.drain(2)


def test_castellan_is_loaded_with_the_first_key_only() -> None:
    """It costs each compute agent memory and time."""
    words = (
        "import sys\n"
        "from cell_service.peers.castellan_keys import open_keys\n"
        "from cell_service.peers.settings import BarbicanSettings, KeyManagerSettings\n"
        "keys = open_keys(BarbicanSettings(auth_type='none'), KeyManagerSettings())\n"
        "assert keys.are_reachable in (True, False)\n"
        "print([name for name in sys.modules if name.startswith(('castellan.', 'barbicanclient'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
