"""The published wire data as an oracle, where it lies beside the repository; without it these checks are skipped."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jsonschema
import jsonschema.validators
import jsonschema_rs
import pytest

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "api"
VERSIONS = ["2.1", "2.26", "2.38", "2.53", "2.60", "2.64", "2.79", "2.90", "2.96", "2.104"]

Version = tuple[int, int]


def demand() -> None:
    """Skip the test, saying so, when the data is not there."""
    if not (FOLDER / "routes.json").exists():
        pytest.skip(f"no wire data at {FOLDER}")


def parsed(version: str) -> Version:
    major, minor = version.split(".")
    return int(major), int(minor)


@cache
def routes() -> dict[tuple[str, str, str | None], list[dict[str, Any]]]:
    """Rows of the route table by method, path and action; placeholders have no names."""
    found: dict[tuple[str, str, str | None], list[dict[str, Any]]] = {}
    for row in json.loads((FOLDER / "routes.json").read_text())["routes"]:
        found.setdefault((row["method"], _plain(row["path"]), row["action"]), []).append(row)
    return found


def row_of(method: str, path: str, version: str, action: str | None = None) -> dict[str, Any]:
    """The row that serves a route at a version."""
    for row in routes()[method, _plain(path), action]:
        if parsed(row["min_version"]) <= parsed(version) <= parsed(row["max_version"]):
            return row
    raise AssertionError(f"{method} {path} {action or ''} is not served at {version}")


def expected_status(method: str, path: str, version: str, action: str | None = None) -> int:
    for success in row_of(method, path, version, action)["success"]:
        low, high = success.get("min_version", "2.1"), success.get("max_version", "2.104")
        if parsed(low) <= parsed(version) <= parsed(high):
            return int(success["code"])
    raise AssertionError("no success code")


def check_answer(method: str, path: str, version: str, status: int, body: Any, action: str | None = None) -> None:
    """A successful answer has the published status and fits the published schema of its version."""
    assert status == expected_status(method, path, version, action), (method, path, action, version, body)
    file = row_of(method, path, version, action)["schema_file"]
    if not fits_answer(file, version, body):
        explaining_validator(file, version).validate(body)


def fits_answer(file: str, version: str, body: Any) -> bool:
    """Whether the published schema takes this answer; true where none is published."""
    validator = _quick_validator(file, version)
    return validator is None or bool(validator.is_valid(body))


def explaining_validator(file: str, version: str) -> Any:
    """The slow validator of an answer, whose errors say where they are; it has the last word."""
    return jsonschema.Draft202012Validator(_schema(file, "response_body", version), format_checker=FORMATS)


def fits_request(method: str, path: str, version: str, body: Any, action: str | None = None) -> bool:
    """Whether the published schema takes this body."""
    schema = _schema(row_of(method, path, version, action)["schema_file"], "request_body", version)
    return schema is None or BOUNDED(schema, format_checker=FORMATS).is_valid(body)


def sample(name: str) -> Any:
    """A published sample, by its path below samples/."""
    return json.loads((FOLDER / "samples" / name).read_text())


ALLOWED = {
    "schemas/server_migrations/": (
        {"type": ["integer", "null"], "minimum": 1},
        {"type": ["integer", "null"], "minimum": 0},
        "a guest without disks to copy has 0 bytes of them, and at its end 0 bytes of memory remain",
    ),
    "schemas/instance_usage_audit_log/": (
        {"type": "string", "format": "uuid"},
        {"type": "string"},
        "hosts that have not run are told by name; the shape wants uuids, which hosts never had",
    ),
    "schemas/keypairs/keypair.": (
        {"type": "string", "pattern": "^[_\\- a-zA-Z0-9]+$", "minLength": 1, "maxLength": 255},
        {"type": "string", "pattern": "^[_\\-\\@\\. a-zA-Z0-9]+$", "minLength": 1, "maxLength": 255},
        "names may have @ and dots from 2.92 on, and such keys are shown at every version; the shapes forgot",
    ),
}
"""Where what is published contradicts itself: start of a schema's path → the part that can't hold, what holds, why."""


def _mended(part: Any, wrong: Any, right: Any) -> Any:
    if part == wrong:
        return right
    if isinstance(part, dict):
        return {name: _mended(inner, wrong, right) for name, inner in part.items()}
    return [_mended(inner, wrong, right) for inner in part] if isinstance(part, list) else part


@cache
def _document(file: str) -> Any:
    document = json.loads((FOLDER / file).read_text())
    for folder, (wrong, right, _why) in ALLOWED.items():
        if file.startswith(folder):
            document["response_body"] = _mended(document.get("response_body", []), wrong, right)
    return document


@cache
def _quick_validator(file: str, version: str) -> Any:
    schema = _schema(file, "response_body", version)
    if schema is None:
        return None
    formats = {name: partial(FORMATS.conforms, format=name) for name in FORMATS.checkers}
    return jsonschema_rs.Draft202012Validator(schema, formats=formats, validate_formats=True)


@cache
def _schema(file: str, kind: str, version: str) -> Any:
    for entry in _document(file).get(kind, []):
        if parsed(entry["min_version"]) <= parsed(version) <= parsed(entry["max_version"]):
            return entry["schema"]
    return None


def _plain(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _bound(name: str) -> Any:
    """A bound that holds for numbers written as text as well."""
    plain = jsonschema.Draft202012Validator.VALIDATORS[name]

    def check(validator: Any, bound: Any, value: Any, schema: Any) -> Any:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return
        yield from plain(validator, bound, value, schema)

    return check


BOUNDED = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {name: _bound(name) for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
)
FORMATS = jsonschema.FormatChecker(formats=())


def _format(name: str) -> Any:
    def add(check: Any) -> Any:
        FORMATS.checks(name, raises=ValueError)(lambda value: not isinstance(value, str) or check(value) is not False)
        return check

    return add


_format("date-time")(datetime.fromisoformat)
_format("uuid")(UUID)
_format("uri")(lambda text: bool(urlsplit(text).scheme and urlsplit(text).netloc))
_format("ipv4")(ipaddress.IPv4Address)
_format("ipv6")(ipaddress.IPv6Address)
_format("cidr")(lambda text: "/" in text and bool(ipaddress.ip_network(text, strict=False)))
_format("base64")(lambda text: bool(base64.b64decode(text)) or True)
_format("regex")(lambda text: bool(text) and bool(re.compile(text)))
_format("name")(lambda text: text == text.strip() and text.isprintable())
_format("az_name")(lambda text: text == text.strip() and text.isprintable() and ":" not in text)
_format("name_with_leading_trailing_spaces")(lambda text: bool(text.strip()) and text.isprintable())
