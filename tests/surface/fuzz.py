"""Requests that schemathesis makes from the service's own OpenAPI document, and what they must leave alone.

One document is made for each route and version, so that each action of a server is asked for as often as any route.
The parts of bodies and paths that speak of things are given things that are there, so that requests get past the
first question; the rest is as generated.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core import NOT_SET

from api_cell.compute.openapi import document
from api_cell.edge.route import Route, Version
from api_cell.edge.versions import shown
from tests.federation.cloud import Federation

MARK = "foreign-mark"
"""In every name and value that belongs to the project whose things nobody else may see."""
LATEST: Version = (2, 104)
BEATS = {"services", "compute_nodes", "cell_mappings", "host_mappings", "alembic_version", "leases"}
"""Tables that are written with nobody asking: heartbeats, reports and who leads."""


@dataclass(frozen=True)
class Case:
    """One generated request of a route."""

    route: Route
    version: Version
    valid: bool
    """Whether the schema takes it."""
    params: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.route.method, self.route.path, self.route.action)))


@dataclass
class Tally:
    """What came of all requests."""

    routes: set[str] = field(default_factory=set)
    successes: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, status: int) -> None:
        self.routes.add(name)
        self.statuses[status] += 1
        if status < 300:
            self.successes.add(name)

    def __str__(self) -> str:
        by = " ".join(f"{status}:{count}" for status, count in sorted(self.statuses.items()))
        return (f"{len(self.routes)} routes, {sum(self.statuses.values())} requests, "
                f"{len(self.successes)} routes with a success; {by}")  # fmt: skip


def versions(route: Route) -> list[Version]:
    """The first and last at which it is there, and those at which what it takes changes."""
    low, high = route.min_version, min(route.max_version, LATEST)
    found = {low, high}
    for schemas in (route.body, route.query):
        if isinstance(schemas, tuple):
            found |= {start for start, _ in schemas if low <= start <= high}
    return sorted(found)


def cases(route: Route, version: Version, *, count: int, number: int) -> Iterator[Case]:
    """`count` requests that fit the document and as many that do not, the same for the same number."""
    (found,) = schemathesis.openapi.from_dict(document([route], version)).get_all_operations()
    operation: Any = found
    for mode in schemathesis.GenerationMode:
        for case in _generated(operation.ok().as_strategy(generation_mode=mode), count, number):
            body = None if case.body is NOT_SET else case.body
            yield Case(route, version, mode.is_positive, case.path_parameters or {}, case.query or {}, body)


def _generated(strategy: Any, count: int, number: int) -> list[Any]:
    made: list[Any] = []

    @seed(number)
    @settings(max_examples=count, database=None, phases=[Phase.generate], deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def collect(case: Any) -> None:
        made.append(case)

    collect()
    return made


def with_things(value: Any, things: Mapping[str, Any], chance: random.Random) -> Any:
    """The body with most of what speaks of things speaking of things that are there."""
    if isinstance(value, dict):
        return {
            name: things[name] if name in things and chance.random() < 0.8 else with_things(part, things, chance)
            for name, part in value.items()
        }
    return [with_things(each, things, chance) for each in value] if isinstance(value, list) else value


def address(case: Case, path: str) -> str:
    """The path with the generated query."""
    if not case.query:
        return path
    return f"{path}?{urlencode(case.query, doseq=True, errors='replace')[:6000]}"


def generated_path(case: Case) -> str:
    """The path with what was generated for its placeholders; it is quoted already."""
    path = case.route.path
    for name, value in case.params.items():
        path = path.replace("{" + name + "}", str(value) if "%" in str(value) else quote(str(value), safe=""))
    return path


def said(case: Case, path: str, body: Any, reply: Any) -> str:
    """A request and its answer, in a line that a person can read."""
    return (f"{case.name} {shown(case.version)} {'valid' if case.valid else 'broken'}: {path[:300]!r} "
            f"{str(body)[:500]} -> {reply.status} {reply.raw[:300]!r}")  # fmt: skip


class Tables:
    """Digests of each table of the global database and of every cell, but for what is written unasked."""

    def __init__(self, cloud: Federation) -> None:
        self._cloud = cloud
        self._files = {
            name: sqlite3.connect(f"file:{cloud.directory / name}.db?mode=ro", uri=True)
            for name in ("global", *cloud.names)
        }
        self._known: dict[str, tuple[int, dict[str, str]]] = {}

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def now(self) -> dict[str, str]:
        """By database and table."""
        found: dict[str, str] = {}
        for part, file in self._files.items():
            (written,) = file.execute("PRAGMA data_version").fetchone()
            if part not in self._known or self._known[part][0] != written:
                self._known[part] = written, _digests(part, file)
            found |= self._known[part][1]
        return found

    def settled(self) -> dict[str, str]:
        """The same once nothing is under way and they stay as they are."""
        last: dict[str, str] = {}

        def still() -> dict[str, str] | bool:
            nonlocal last
            before, last = last, self.now()
            return last if last == before and not self._cloud.unfinished() and not self._moving() else False

        found: dict[str, str] = self._cloud.until(still, seconds=60)
        return found

    def _moving(self) -> bool:
        """Whether servers are on their way; those that wait to be confirmed are not."""
        query = "SELECT count(*) FROM moves WHERE finished_at IS NULL AND phase != 'waiting'"
        return bool(self._files["global"].execute(query).fetchone()[0])


def _digests(part: str, file: sqlite3.Connection) -> dict[str, str]:
    found = {}
    for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if name not in BEATS:
            rows = sorted(map(repr, file.execute(f"SELECT * FROM {name}").fetchall()))
            found[f"{part}.{name}"] = hashlib.sha256("\n".join(rows).encode("utf-8", "replace")).hexdigest()
    return found
