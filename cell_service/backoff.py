"""Pauses between attempts: each twice as long as the one before, up to a longest one, spread by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass

_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds. `spread`: a pause is multiplied by a random number between these, so that many callers that failed
    at once do not try again at once."""

    first: float
    longest: float
    spread: tuple[float, float] = (0.5, 1.5)

    def pause(self, attempt: int) -> float:
        """The seconds to wait after attempt number `attempt` (from 1) has failed."""
        doubled = self.first * 2.0 ** min(max(attempt, 1) - 1, _MOST_DOUBLINGS)
        return min(self.longest, doubled) * random.uniform(*self.spread)
