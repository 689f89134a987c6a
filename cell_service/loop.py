"""The thread of a service that repeats its duties until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cell_service.context import Clock
from cell_service.errors import PolycellError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Work to do each `seconds`, first after `delay`. `seconds` may be a function that is called after the work."""

    name: str
    work: Callable[[], object]
    seconds: float | Callable[[], float]
    delay: float = 0.0

    def pause(self) -> float:
        return self.seconds if isinstance(self.seconds, int | float) else self.seconds()


class Loop:
    """One thread for some duties, which it does one after another as they become due.

    A duty that fails is logged and done again after its pause, or after `retry_seconds` where that is sooner.
    """

    def __init__(
        self,
        name: str,
        duties: Sequence[Duty],
        clock: Clock,
        *,
        retry_seconds: float | None = None,
        wake: threading.Event | None = None,
    ) -> None:
        """`wake`: setting it makes every duty due."""
        self._duties, self._clock, self._retry_seconds = tuple(duties), clock, retry_seconds
        self._wake = wake or threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def trigger(self) -> None:
        """Make every duty due now."""
        self._wake.set()

    def halt(self) -> None:
        """Begin no more duties. Does not wait for the one under way."""
        self._stopping.set()
        self._wake.set()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Begin no more duties, and wait for the one under way. Safe to call twice, and before `start`."""
        self.halt()
        self.join(grace_seconds)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, `seconds` at most."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def stopping(self) -> threading.Event:
        """Set once the loop is to stop: for work that takes long or pauses."""
        return self._stopping

    def _run(self) -> None:
        now = self._clock.monotonic()
        due = [now + duty.delay for duty in self._duties]
        while not self._stopping.is_set():
            if self._clock.wait(self._wake, max(0.0, min(due) - self._clock.monotonic())):
                self._wake.clear()
                due = [0.0] * len(due)
            for index, duty in enumerate(self._duties):
                if not self._stopping.is_set() and due[index] <= self._clock.monotonic():
                    due[index] = self._clock.monotonic() + self._do(duty)

    def _do(self, duty: Duty) -> float:
        """Do the duty. Returns the pause before it is due again."""
        try:
            duty.work()
        except PolycellError as error:
            log.warning("%s: %s failed: %s", self._thread.name, duty.name, error)
        except Exception:
            log.exception("%s: %s failed", self._thread.name, duty.name)
        else:
            return duty.pause()
        return duty.pause() if self._retry_seconds is None else min(duty.pause(), self._retry_seconds)
