"""Finding the route of a request: its path, then method, action and version."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from api_cell.edge.route import ByVersion, Handler, Route, Schema, Version
from api_cell.edge.schema import Validator
from cell_service.http.paths import PathTree, placeholders


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route with its placeholders' names and its validators, each from the version at which it applies."""

    route: Route
    names: tuple[str, ...]
    body: tuple[tuple[Version, Validator | None], ...]
    query: tuple[tuple[Version, Validator | None], ...]

    @property
    def handler(self) -> Handler:
        return self.route.handler

    def serves(self, version: Version) -> bool:
        return self.route.min_version <= version <= self.route.max_version


def validator_at(validators: tuple[tuple[Version, Validator | None], ...], version: Version) -> Validator | None:
    """The validator that applies at a version, None where nothing is checked."""
    found = None
    for start, validator in validators:
        if start > version:
            break
        found = validator
    return found


@dataclass(slots=True)
class PathMatch:
    """All routes of one path: method → action (None for routes without one) → the routes by version.

    `path` is the template of which requests' paths are instances.
    """

    path: str
    methods: dict[str, dict[str | None, list[CompiledRoute]]] = field(default_factory=dict)

    def has_actions(self, method: str) -> bool:
        """Whether the key of a request's body chooses its route."""
        return None not in self.methods[method]

    @property
    def allow(self) -> str:
        """The methods that the path knows, for the Allow header."""
        return ", ".join(sorted(self.methods))


class Router:
    """The routes of an API, compiled."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._paths: PathTree[PathMatch] = PathTree()
        self._validators: list[Validator] = []
        for route in routes:
            self._add(route)

    def starts(self, segment: str) -> bool:
        """Whether any route's path begins with this segment."""
        return self._paths.starts(segment)

    def compile(self) -> None:
        """All validators are ready for their first requests. Takes about a second of the process."""
        for validator in self._validators:
            validator.compiled()

    def find(self, segments: list[str]) -> tuple[PathMatch, list[str]] | None:
        """The routes of a path, and the values of its placeholders, in order."""
        return self._paths.find(segments)

    def _add(self, route: Route) -> None:
        match = self._paths.at(route.path, partial(PathMatch, route.path))
        compiled = CompiledRoute(route, placeholders(route.path), _validators(route.body), _validators(route.query))
        self._validators += [each for _, each in (*compiled.body, *compiled.query) if each is not None]
        actions = match.methods.setdefault(route.method, defaultdict(list))
        clash = [other for other in actions[route.action] if _overlap(other.route, route)]
        assert not clash, f"two routes for {route.method} {route.path} {route.action or ''}"
        actions[route.action].append(compiled)


def _overlap(one: Route, other: Route) -> bool:
    return one.min_version <= other.max_version and other.min_version <= one.max_version


def _validators(schemas: Schema | ByVersion | None) -> tuple[tuple[Version, Validator | None], ...]:
    if schemas is None:
        return ()
    if isinstance(schemas, tuple):
        return tuple((version, None if schema is None else Validator.of(schema)) for version, schema in schemas)
    return (((0, 0), Validator.of(schemas)),)
