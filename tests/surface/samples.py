"""The published samples as exchanges: what is sent, with values of this cloud put in, and the shape of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

from tests.edge import reference

MAPS = frozenset({"metadata", "extra_specs", "addresses", "meta", "log", "hosts", "properties", "rules"})
"""Objects whose keys are data."""
EMPTY = ": is empty"
SOMETIMES = frozenset({
    ("/migrations/[]", "links"),  # of live migrations that are under way
    ("/servers/[]", "progress"),  # of servers that are active, or on their way to it
})  # fmt: skip
"""Where what is there only in some states."""
PAGING = "_links"
"""Ends the name of what is there only when there is another page."""
QUERY: Mapping[str, Callable[[str], str | None]] = {
    "marker": lambda _: None,
    "changes-since": lambda _: "2016-01-01T00:00:00+00:00",
    "changes-before": lambda _: "2099-01-01T00:00:00+00:00",
    "start": lambda _: "2026-01-01T00:00:00",
    "end": lambda _: "2099-01-01T00:00:00",
    "project_id": lambda _: "admin-project",
}
"""What stands for a parameter of a sample's query; None: it is left out. Others stay as they are."""


UNTIED: Mapping[str, tuple[str, str]] = {
    "extension-info/extensions-list-resp-v21-compatible.json": ("/extensions", "2.1"),
    "os-instance-actions/v2.66/instance-action-get-non-admin-resp.json": (
        "/servers/{server_id}/os-instance-actions/{id}", "2.66"),
    "server-migrations/v2.80/migrations-get.json": ("/servers/{server_id}/migrations/{id}", "2.80"),
    "server-migrations/v2.80/migrations-index.json": ("/servers/{server_id}/migrations", "2.80"),
}  # fmt: skip
"""What the index says of no request, and yet is the answer to one."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with its sample, or none, and the sample of its answer, or none."""

    method: str
    path: str
    action: str | None
    version: str
    query: str
    status: int
    request: str | None
    response: str | None

    @property
    def name(self) -> str:
        return self.request or self.response or ""

    @property
    def by_member(self) -> bool:
        """Whether the answer is what a user gets who is no administrator."""
        if self.response is None:
            return False
        if self.response.startswith("os-server-shares/"):
            return "-admin-" not in self.response
        text = json.dumps(reference.sample(self.response))
        return "non-admin" in self.response or ('"accessIPv4"' in text and '"OS-EXT-SRV-ATTR:host"' not in text)

    @property
    def samples(self) -> tuple[str, ...]:
        return tuple(name for name in (self.request, self.response) if name)


@cache
def index() -> Mapping[str, list[dict[str, Any]]]:
    """Sample → its uses; nothing where the data is not there."""
    file = reference.FOLDER / "samples_index.json"
    found: dict[str, list[dict[str, Any]]] = json.loads(file.read_text())["samples"] if file.exists() else {}
    return found


@cache
def exchanges() -> tuple[Exchange, ...]:
    """One of each sample that belongs to a request."""
    found: dict[tuple[str, ...], Exchange] = {}
    for name, uses in index().items():
        if uses:
            made = _exchange(name, next((use for use in uses if use["status"] < 400), uses[0]))
            found[made.samples] = made
    for name, (path, version) in UNTIED.items():
        if name in index():
            found[(name,)] = Exchange("GET", path, None, version, "", 200, None, name)
    return tuple(found.values())


def _exchange(name: str, use: Mapping[str, Any]) -> Exchange:
    sent = use["role"] == "request"
    request, response = (name, use.get("response_sample")) if sent else (use.get("request_sample"), name)
    return Exchange(
        use["method"], use["path"], use.get("action"), use["microversion"], _query(use.get("query") or ""),
        use["status"], request, response,
    )  # fmt: skip


def _query(text: str) -> str:
    made = []
    for name, value in parse_qsl(text):
        told = QUERY[name](value) if name in QUERY else value
        if told is not None:
            made.append((name, told))
    return f"?{urlencode(made)}" if made else ""


def filled(body: Any, values: Mapping[str, Callable[[], Any]], name: str = "") -> Any:
    """The sample's body with values of this cloud, by the names of the keys (or `outer.key`, which wins)."""
    if isinstance(body, dict):
        made = {}
        for key, inner in body.items():
            put = values.get(f"{name}.{key}") or values.get(key)
            made[key] = put() if put is not None and not isinstance(inner, dict) else filled(inner, values, key)
        return made
    return [filled(inner, values, name) for inner in body] if isinstance(body, list) else body


def differences(sample: Any, answer: Any, at: str = "") -> list[str]:
    """Where the answer has another shape than the sample: keys, nesting, kinds of values. Null may stand for any."""
    if sample is None or answer is None:
        return []
    if _kind(sample) != _kind(answer):
        return [f"{at}: {_kind(answer)}, not {_kind(sample)}"]
    if isinstance(sample, dict):
        return _of_objects(sample, answer, at)
    if isinstance(sample, list):
        if sample and not answer:
            return [f"{at}{EMPTY}"]
        return _of_lists(sample, answer, at)
    return []


def _of_lists(sample: list[Any], answer: list[Any], at: str) -> list[str]:
    """Each of the answer's is like one of the sample's; what is empty in some has something in others."""
    every = [min((differences(one, each, f"{at}/[]") for one in sample), key=len, default=[]) for each in answer]
    always = set(every[0]).intersection(*every) if every else set()
    found = {one for each in every for one in each if not one.endswith(EMPTY) or one in always}
    return sorted(found)


def _of_objects(sample: dict[str, Any], answer: dict[str, Any], at: str) -> list[str]:
    if at.rpartition("/")[2] in MAPS or at.endswith("/hosts/*"):  # a host's services, by binary
        kinds = list(sample.values())
        if not kinds:
            return []
        every = [min((differences(one, each, f"{at}/*") for one in kinds), key=len) for each in answer.values()]
        return max(every, key=len, default=[])
    found = [f"{at}: no {name}" for name in sample if name not in answer and not _varies(at, name)]
    found += [f"{at}: has {name}" for name in answer if name not in sample and not _varies(at, name)]
    for name in sample.keys() & answer.keys():
        found += differences(sample[name], answer[name], f"{at}/{name}")
    return found


def _varies(at: str, name: str) -> bool:
    return name.endswith(PAGING) or (at, name) in SOMETIMES


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return {dict: "object", list: "array", str: "string"}[type(value)]


def fresh() -> str:
    """A name that nothing has yet."""
    return uuid4().hex
