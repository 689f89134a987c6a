"""The context of a request: on whose behalf it runs, under which request id, and until when.

A Context is a value: it is passed as an argument, travels in every message, and is never stored anywhere
ambient. Time comes from a Clock, so that tests can turn it by hand.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cell_service.errors import DeadlineExceeded


class Clock(Protocol):
    """A source of time. `now` is UTC and aware; `monotonic` is in seconds and never goes back."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event at most `seconds`. True when it was set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


class ManualClock:
    """A clock that stops until `advance` is called; a wait ends when time has been moved past its end."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = 0.0
        self._turned = threading.Condition()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        with self._turned:
            self._now += timedelta(seconds=seconds)
            self._elapsed += seconds
            self._turned.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        until = self._elapsed + seconds
        with self._turned:
            while not event.is_set() and self._elapsed < until:
                self._turned.wait(0.02)
        return event.is_set()


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a clock after which no caller waits for the answer. It is passed on, never restarted."""

    at: float
    clock: Clock = field(default=SYSTEM_CLOCK, compare=False, repr=False)

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        return cls(clock.monotonic() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, 0.0 when it has passed."""
        return max(0.0, self.at - self.clock.monotonic())

    def check(self, peer: str) -> float:
        """Seconds left. Raises DeadlineExceeded when there are none."""
        left = self.remaining()
        if left <= 0:
            raise DeadlineExceeded(peer=peer)
        return left

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or one in `seconds` if that is earlier."""
        return replace(self, at=min(self.at, self.clock.monotonic() + seconds))


def new_request_id() -> str:
    """A request id in the ecosystem's form: `req-` and a uuid."""
    return f"req-{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class Context:
    """The user, project and request on whose behalf work is done. Empty strings where a process acts by itself."""

    request_id: str
    global_request_id: str = ""
    user_id: str = ""
    project_id: str = ""
    user_domain_id: str = ""
    project_domain_id: str = ""
    user_name: str = ""
    project_name: str = ""
    roles: tuple[str, ...] = ()
    is_admin: bool = False
    system_scope: str = ""
    domain_scope: str = ""
    service_roles: tuple[str, ...] = ()
    remote_address: str = ""
    deadline: Deadline = field(default_factory=lambda: Deadline.after(60))

    def until(self, deadline: Deadline) -> Context:
        return replace(self, deadline=deadline)


def internal(clock: Clock = SYSTEM_CLOCK, seconds: float = 60) -> Context:
    """A context for work that a process does by itself, without a request."""
    return Context(request_id=new_request_id(), is_admin=True, deadline=Deadline.after(seconds, clock))
