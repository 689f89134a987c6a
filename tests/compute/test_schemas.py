"""Our schemas take and refuse what the published ones do: published samples, and small changes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api_cell.compute.routes import (
    AGGREGATES,
    FLAVORS,
    KEYPAIRS,
    QUOTAS,
    SERVER_ACTIONS,
    SERVER_GROUPS,
    SERVER_PARTS,
    SERVICES,
)
from api_cell.edge.route import Route
from api_cell.edge.router import CompiledRoute, Router, validator_at
from cell_service.errors import Invalid
from cell_service.http.paths import split
from tests.edge import reference
from tests.edge.reference import VERSIONS, parsed

_SHELVE = [route for route in SERVER_ACTIONS if route.action in ("shelve", "shelveOffload", "unshelve")]
_LIVE = [route for route in SERVER_PARTS if route.action == "force_complete"]
ROUTES = [*_SHELVE, *_LIVE]
ROUTES += [route for route in (*FLAVORS, *KEYPAIRS, *QUOTAS, *SERVER_GROUPS, *SERVICES, *AGGREGATES) if route.body]
STRANGE: list[Any] = [None, True, "", " ", " a", "a ", "a" * 255, "a" * 256, 0, 1, -1, "-1", "0", "1", "1.5", 1.5,
                      2**31 - 1, 2**31, "2147483648", [], ["a"], {}, {"a": "b"}, "true", "TRUE", "maybe", "a:b",
                      "a\nb", "\u0442\u0435\u0441\u0442", "auto", "x" * 70000]  # fmt: skip


UNSAMPLED: dict[str | None, list[Any]] = {
    None: [{"flavor": {"description": "a"}}],
    "shelve": [{"shelve": None}],
    "shelveOffload": [{"shelveOffload": None}],
    "unshelve": [{"unshelve": None}, {"unshelve": {"availability_zone": "a", "host": "h"}}],
    "force_complete": [{"force_complete": None}],
}


def bodies(route: Route) -> list[Any]:
    """The published request samples of a route."""
    index = json.loads((reference.FOLDER / "samples_index.json").read_text())["samples"]
    return [
        reference.sample(name)
        for name, uses in index.items()
        if any(
            use["role"] == "request"
            and use["method"] == route.method
            and reference._plain(use["path"]) == reference._plain(route.path)
            and use.get("action") == route.action
            for use in uses
        )
    ]


def changed(body: Any) -> Iterator[Any]:
    """The body with one thing other than it was, for every thing in it."""
    yield body
    yield from STRANGE
    if isinstance(body, dict):
        yield {**body, "surprise": 1}
        for key in body:
            yield {name: value for name, value in body.items() if name != key}
            for other in changed(body[key]):
                yield {**body, key: other}


def compiled_of(route: Route) -> CompiledRoute:
    found = Router([route]).find(split(route.path))
    assert found is not None
    return found[0].methods[route.method][route.action][0]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path} {route.action or ''}")
def test_the_same_bodies_fit(route: Route) -> None:
    reference.demand()
    compiled = compiled_of(route)
    seen = 0
    for version in VERSIONS:
        if not compiled.serves(parsed(version)):
            continue
        validator = validator_at(compiled.body, parsed(version))
        assert validator is not None
        for sample in bodies(route) or UNSAMPLED.get(route.action, []):
            for body in changed(sample):
                if route.action is not None and (not isinstance(body, dict) or list(body) != [route.action]):
                    continue  # another action, or none
                try:
                    validator.check(body)
                    fits = True
                except Invalid:
                    fits = False
                expected = reference.fits_request(route.method, route.path, version, body, route.action)
                assert fits == expected, f"{version} {str(body)[:300]}"
                seen += 1
    assert seen
