"""The work that a super-conductor has not begun yet: each build request once, in the order in which they were
reported."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Waiting:
    """Thread-safe."""

    def __init__(self) -> None:
        self._some = threading.Condition()
        self._found: dict[str, None] = {}
        self._closed = False

    def add(self, names: Iterable[str]) -> None:
        """Add the requests that don't wait already."""
        with self._some:
            self._found.update(dict.fromkeys(names))
            self._some.notify()

    def take(self, most: int) -> list[str]:
        """Take the oldest requests, at most so many, as soon as there are any; none when closed."""
        with self._some:
            self._some.wait_for(lambda: self._found or self._closed)
            taken = [] if self._closed else list(self._found)[:most]
            for name in taken:
                del self._found[name]
            if self._found:
                self._some.notify()
            return taken

    def close(self) -> None:
        """`take` returns nothing any more, also to threads that wait in it."""
        with self._some:
            self._closed = True
            self._some.notify_all()
