"""How many requests a project may send to this process: a bucket for each, filled evenly. For the loop's thread."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from cell_service.context import Clock
from cell_service.errors import TooManyRequests

_MOST_PROJECTS = 10_000


class Rates:
    """`rate` requests a second on average, up to `burst` at once; a rate of 0 is no limit."""

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        self._rate, self._burst, self._clock = rate, max(burst, 1), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, project_id: str) -> None:
        """Count a request. Raises TooManyRequests, with the seconds until one is allowed again."""
        if not self._rate:
            return
        now = self._clock.monotonic()
        left, since = self._buckets.pop(project_id, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._rate)
        allowed = left >= 1
        self._buckets[project_id] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _MOST_PROJECTS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests(retry_after=ceil((1 - left) / self._rate))
