"""Values that hold for a few seconds, by a key."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from cell_service.context import Clock

T = TypeVar("T")

MOST_KEPT = 20_000


class Kept(Generic[T]):
    """Thread-safe and bounded. `seconds` 0: nothing is kept."""

    def __init__(self, clock: Clock, seconds: float, most: int = MOST_KEPT) -> None:
        self._clock, self._seconds, self._most = clock, seconds, most
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """The value, if it still holds."""
        with self._lock:
            found = self._values.get(key)
            return found[1] if found is not None and self._clock.monotonic() < found[0] else None

    def put(self, key: str, value: T) -> None:
        """The value holds from now on."""
        if not self._seconds:
            return
        with self._lock:
            self._values[key] = (self._clock.monotonic() + self._seconds, value)
            self._values.move_to_end(key)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)
