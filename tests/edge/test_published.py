"""Answers are held against what is published: what does not fit is seen."""

from __future__ import annotations

import json

import pytest

from tests.edge import reference
from tests.edge.published import HERE, fault


@pytest.fixture(autouse=True)
def data() -> None:
    reference.demand()


def refusal(code: int) -> bytes:
    return json.dumps({"fault": {"code": code, "message": "no"}}).encode()


@pytest.mark.parametrize(
    ("method", "path", "status", "sent", "raw"),
    [
        ("GET", "/v2.1/os-keypairs", 202, None, b'{"keypairs": []}'),
        ("GET", "/v2.1/os-keypairs", 200, None, b'{"keypairs": {}}'),
        ("GET", "/v2.1/os-keypairs", 404, None, refusal(404)),
        ("GET", "/v2/os-keypairs", 409, None, refusal(409)),
        ("GET", "/v2.1/os-keypairs", 400, None, refusal(404)),
        ("GET", "/v2.1/os-keypairs", 400, None, b"Traceback"),
        ("GET", "/v2.1/0123abcd/os-keypairs", 500, None, refusal(500)),
        ("POST", "/v2.1/servers/x/action", 410, b'{"os-start": null}', refusal(410)),
        ("POST", "/v2.1/servers/x/action", 409, b'{"os-nothing": null}', refusal(409)),
        ("POST", "/v2.1/servers/x/action", 500, b"{", refusal(500)),
        ("GET", "/v2.1/images", 200, None, b'{"images": []}'),
    ],
)
def test_what_does_not_fit_is_seen(method: str, path: str, status: int, sent: bytes | None, raw: bytes) -> None:
    assert fault(method, path, "2.60", status, sent, raw)


@pytest.mark.parametrize(
    ("method", "path", "status", "sent", "raw"),
    [
        ("GET", "/v2.1/os-keypairs", 200, None, b'{"keypairs": []}'),
        ("GET", "/v2.1/os-keypairs/x", 404, None, refusal(404)),
        ("POST", "/v2.1/servers/x/action", 409, b'{"os-start": null}', refusal(409)),
        ("POST", "/v2.1/servers/x/action", 400, b"{", refusal(400)),
        ("GET", "/v2.1/images", 404, None, refusal(404)),
        ("GET", "/v2.1/not-published", 500, None, b"anything"),
    ],
)
def test_what_fits_is_let_through(method: str, path: str, status: int, sent: bytes | None, raw: bytes) -> None:
    assert not fault(method, path, "2.60", status, sent, raw)


def test_what_else_is_refused_belongs_to_published_routes() -> None:
    names = {
        " ".join(part for part in (row["method"], row["path"], row["action"]) if part)
        for rows in reference.routes().values()
        for row in rows
    }
    assert names >= {name for name, _ in HERE}
