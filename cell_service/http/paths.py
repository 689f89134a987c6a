"""Finding what belongs to a request's path: a tree over the segments of paths with placeholders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar
from urllib.parse import unquote

from cell_service.errors import NotFound

T = TypeVar("T")


def split(path: str) -> list[str]:
    """The segments of a path; one trailing slash doesn't count."""
    return path.removesuffix("/").split("/")[1:]


def decoded(segment: str) -> str:
    """The text that a segment of a URL stands for. Raises NotFound for a character that no name has."""
    text = unquote(segment) if "%" in segment else segment
    if "\0" in text:
        raise NotFound(reason="The resource could not be found.")
    return text


@cache
def placeholders(path: str) -> tuple[str, ...]:
    """The names of a path's placeholders, in order."""
    return tuple(segment[1:-1] for segment in split(path) if segment.startswith("{"))


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict)
    placeholder: _Node[T] | None = None
    value: T | None = None


class PathTree(Generic[T]):
    """One value a path. A segment in braces is a placeholder and takes any text; literal segments win over it."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def at(self, path: str, make: Callable[[], T]) -> T:
        """The value of a path as it was declared; it is made where there is none yet."""
        node = self._root
        for segment in split(path):
            if segment.startswith("{"):
                node.placeholder = node.placeholder or _Node()
                node = node.placeholder
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.value is None:
            node.value = make()
        return node.value

    def starts(self, segment: str) -> bool:
        """Whether any path begins with this literal segment."""
        return segment in self._root.literals

    def find(self, segments: list[str]) -> tuple[T, list[str]] | None:
        """The value for a request's path, and the segments that its placeholders take, in order."""
        taken: list[str] = []
        found = _walk(self._root, segments, 0, taken)
        return None if found is None else (found, taken)


def _walk(node: _Node[T], segments: list[str], at: int, taken: list[str]) -> T | None:
    if at == len(segments):
        return node.value
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, at + 1, taken)
        if found is not None:
            return found
    if node.placeholder is None or not segment:
        return None
    taken.append(segment)
    found = _walk(node.placeholder, segments, at + 1, taken)
    if found is None:
        taken.pop()
    return found
