"""Finding the route of a request: a tree over path segments, then method, action and version."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from api_cell.edge.route import ByVersion, Handler, Route, Schema, Version
from api_cell.edge.schema import Validator


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
    """All routes of one path: method → action (None for routes without one) → the routes by version."""

    methods: dict[str, dict[str | None, list[CompiledRoute]]] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        """The methods that the path knows, for the Allow header."""
        return ", ".join(sorted(self.methods))


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    placeholder: _Node | None = None
    match: PathMatch | None = None


class Router:
    """The routes of an API, compiled. Literal segments win over placeholders."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._validators: list[Validator] = []
        for route in routes:
            self._add(route)

    def starts(self, segment: str) -> bool:
        """Whether any route's path begins with this segment."""
        return segment in self._root.literals

    def compile(self) -> None:
        """All validators are ready for their first requests. Takes about a second of the process."""
        for validator in self._validators:
            validator.compiled()

    def find(self, segments: list[str]) -> tuple[PathMatch, list[str]] | None:
        """The routes of a path, and the values of its placeholders, in order."""
        values: list[str] = []
        match = _walk(self._root, segments, 0, values)
        return None if match is None else (match, values)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in split(route.path):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.literals.setdefault(segment, _Node())
        node.match = node.match or PathMatch()
        compiled = CompiledRoute(route, tuple(names), _validators(route.body), _validators(route.query))
        self._validators += [each for _, each in (*compiled.body, *compiled.query) if each is not None]
        actions = node.match.methods.setdefault(route.method, defaultdict(list))
        clash = [other for other in actions[route.action] if _overlap(other.route, route)]
        assert not clash, f"two routes for {route.method} {route.path} {route.action or ''}"
        actions[route.action].append(compiled)


def split(path: str) -> list[str]:
    """The segments of a path; one trailing slash doesn't count."""
    return path.removesuffix("/").split("/")[1:]


def _walk(node: _Node, segments: list[str], at: int, values: list[str]) -> PathMatch | None:
    if at == len(segments):
        return node.match
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, at + 1, values)
        if found is not None:
            return found
    if node.placeholder is None or not segment:
        return None
    values.append(segment)
    found = _walk(node.placeholder, segments, at + 1, values)
    if found is None:
        values.pop()
    return found


def _overlap(one: Route, other: Route) -> bool:
    return one.min_version <= other.max_version and other.min_version <= one.max_version


def _validators(schemas: Schema | ByVersion | None) -> tuple[tuple[Version, Validator | None], ...]:
    if schemas is None:
        return ()
    if isinstance(schemas, tuple):
        return tuple((version, None if schema is None else Validator.of(schema)) for version, schema in schemas)
    return (((0, 0), Validator.of(schemas)),)
