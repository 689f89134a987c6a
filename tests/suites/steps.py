"""Running a cell step by step on one thread: pools whose steps run when told, a queue that delivers when told, and a
switch that kills at any step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from cell_service.errors import DeadlineExceeded, NoConsumer, QueueUnavailable
from cell_service.rpc.transport import Delivery, Handler


class Killed(BaseException):
    """The process is gone: nothing after this happens in it."""


class StepPool:
    """A pool whose steps run when `run` is called."""

    def __init__(self) -> None:
        self.steps: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., None], *args: Any) -> None:
        self.steps.append(lambda: fn(*args))

    def run(self) -> bool:
        """Run all there is, and what comes of it. Answers whether there was anything."""
        ran = False
        while self.steps:
            ran = True
            try:
                self.steps.popleft()()
            except Killed:
                self.steps.clear()
        return ran


class StepPools:
    """In the place of compute_host.timers.Pools."""

    def __init__(self) -> None:
        self.control = self.builds = self.verbs = StepPool()

    def run(self) -> bool:
        return self.control.run()


class StepSubscription:
    def __init__(self, queue: StepQueue, topic: str, handler: Handler) -> None:
        self._queue, self._topic, self._handler = queue, topic, handler

    def stop(self, grace_seconds: float = 5.0) -> None:
        if self._queue.handlers.get(self._topic) is self._handler:
            del self._queue.handlers[self._topic]


class StepQueue:
    """A transport on one thread: calls are answered at once, casts wait for `deliver`."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.topics: set[str] = set()
        self.casts: deque[tuple[str, bytes]] = deque()
        self.down = False

    def cast(self, topic: str, body: bytes, *, timeout: float) -> None:
        self.ping(timeout=timeout)
        if topic not in self.topics:
            raise NoConsumer(topic=topic)
        self.casts.append((topic, body))

    def call(self, topic: str, body: bytes, *, timeout: float) -> bytes:
        if self.down or topic not in self.handlers:
            raise DeadlineExceeded(peer=topic)
        try:
            return self.handlers[topic](Delivery(topic, body, 1, True)) or b""
        except Killed:
            self.handlers.pop(topic, None)
            raise DeadlineExceeded(peer=topic) from None

    def serve(self, topic: str, handler: Handler, *, threads: int = 4) -> StepSubscription:
        self.topics.add(topic)
        self.handlers[topic] = handler
        return StepSubscription(self, topic, handler)

    def ping(self, *, timeout: float) -> None:
        if self.down:
            raise QueueUnavailable(reason="it is down")

    def close(self) -> None:
        self.handlers.clear()

    def deliver(self) -> bool:
        """Hand over the casts that somebody serves. Answers whether there were any."""
        waiting, self.casts = self.casts, deque()
        found = False
        for topic, body in waiting:
            if topic not in self.handlers:
                self.casts.append((topic, body))
                continue
            found = True
            try:
                self.handlers[topic](Delivery(topic, body, 1, False))
            except Killed:
                self.handlers.pop(topic, None)
        return found


class KillSwitch:
    """Kills at the `at`-th guarded call (0: never), before it does anything or after it has done all.

    `lacking`: names of methods that the guarded seams do not have.
    """

    def __init__(self, at: int = 0, *, after: bool = False) -> None:
        self.at, self.after, self.count, self.dead = at, after, 0, False
        self.calls: list[str] = []
        self.lacking: set[str] = set()
        self._before: dict[str, Callable[[], None]] = {}
        self._afterwards: dict[str, Callable[[], None]] = {}

    def kill(self) -> None:
        """From now on every guarded call is the end."""
        self.dead = True

    def before(self, name: str, happens: Callable[[], None]) -> None:
        """Have something happen just before the next guarded call of that name."""
        self._before[name] = happens

    def afterwards(self, name: str, happens: Callable[[], None]) -> None:
        """Have something happen as soon as the next guarded call of that name has done all; what it raises is the
        call's answer."""
        self._afterwards[name] = happens

    def guard(self, seam: Any, *names: str) -> Any:
        """The seam, with the named methods (all, without names) going through the switch."""
        return _Guarded(self, seam, names)

    def through(self, name: str, call: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed(name)
        self.count += 1
        self.calls.append(name)
        if self.count == self.at and not self.after:
            self.dead = True
            raise Killed(name)
        self._before.pop(name, _nothing)()
        result = call()
        self._afterwards.pop(name, _nothing)()
        if self.count == self.at:
            self.dead = True
            raise Killed(name)
        return result


def _nothing() -> None:
    return None


class _Guarded:
    def __init__(self, switch: KillSwitch, seam: Any, names: tuple[str, ...]) -> None:
        self.__dict__.update(_switch=switch, _seam=seam, _names=names)

    def __getattr__(self, name: str) -> Any:
        if name in self._switch.lacking:
            raise AttributeError(name)
        found = getattr(self._seam, name)
        if not callable(found) or (self._names and name not in self._names):
            return found
        return lambda *args, **kwargs: self._switch.through(name, lambda: found(*args, **kwargs))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._seam, name, value)
