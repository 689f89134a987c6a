"""Threads that run handlers: shared by all subscriptions of a process's queue, made when there is work."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cell_service.logs import about
from cell_service.rpc.transport import MAX_DELIVERIES, Delivery, Handler, Subscription, Unintelligible

log = logging.getLogger(__name__)

IDLE_SECONDS = 30.0


class Workers:
    """At most `limit` threads; each ends after IDLE_SECONDS without work. They end with the process."""

    def __init__(self, name: str, limit: int = 128) -> None:
        self._name, self._limit = name, limit
        self._lock = threading.Lock()
        self._work: deque[Callable[[], None]] = deque()
        self._some = threading.Condition(self._lock)
        self._idle = self._threads = 0
        self.handled = threading.Condition()
        """Notified whenever a handler has ended; one for all subscriptions, so that each costs little."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run the task as soon as there is a thread. It must not raise."""
        with self._lock:
            self._work.append(work)
            if self._idle >= len(self._work) or self._threads >= self._limit:
                self._some.notify()
                return
            self._threads += 1
        threading.Thread(target=self._run, name=f"{self._name}-work", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                found = self._work or self._some.wait_for(lambda: self._work, IDLE_SECONDS)
                self._idle -= 1
                if not found:
                    self._threads -= 1
                    return
                work = self._work.popleft()
            try:
                work()
            except Exception:
                log.exception("work of the queue failed")


@dataclass(frozen=True, slots=True)
class Replied:
    body: bytes


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The handler raised; `hopeless` when it can never succeed."""

    hopeless: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """The message was a call, and its caller has given up."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The message was released without reaching the handler."""


Outcome = Replied | CallFailed | Dropped | GivenBack


@dataclass(frozen=True, slots=True)
class PendingDelivery:
    """A delivery, and the callback that gets its outcome, once. A call is dropped when begun after `stale_at`."""

    delivery: Delivery
    settle: Callable[[Outcome], None]
    stale_at: float | None = None


class Serving:
    """Runs one handler for tasks on shared workers, at most `threads` at once."""

    __slots__ = ("_active", "_changed", "_closed", "_handler", "_jobs", "_tasks", "_threads", "_workers")

    def __init__(self, workers: Workers, handler: Handler, threads: int) -> None:
        self._workers, self._handler, self._threads = workers, handler, threads
        self._changed = workers.handled
        self._tasks: list[PendingDelivery] = []
        """Tasks not begun. Never many: the transport delivers at most a fixed number at a time."""
        self._jobs = 0
        """How many workers run tasks of this handler, or are about to."""
        self._active: set[int] = set()
        """The threads that run the handler now."""
        self._closed = False

    def take(self, task: PendingDelivery) -> None:
        """Have the task handled; it is released at once after `close`."""
        with self._changed:
            closed = self._closed
            if not closed:
                self._tasks.append(task)
                if self._jobs >= self._threads:
                    return
                self._jobs += 1
        if closed:
            task.settle(GivenBack())
        else:
            self._workers.submit(self._work)

    def close(self) -> None:
        """Begin no more tasks; those not begun are released."""
        with self._changed:
            self._closed = True
            left, self._tasks = self._tasks, []
        for task in left:
            task.settle(GivenBack())

    def wait(self, seconds: float) -> bool:
        """Wait for running handlers, except one that the caller itself runs in. Returns whether none is left."""
        mine = {threading.get_ident()}
        with self._changed:
            return self._changed.wait_for(lambda: self._active <= mine, seconds)

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                if not self._tasks:
                    self._jobs -= 1
                    return
                task = self._tasks.pop(0)
                self._active.add(me)
            try:
                outcome = self._outcome(task)
            finally:
                with self._changed:
                    self._active.discard(me)
                    self._changed.notify_all()
            task.settle(outcome)

    def _outcome(self, task: PendingDelivery) -> Outcome:
        if task.stale_at is not None and time.monotonic() > task.stale_at:
            return Dropped()
        delivery = task.delivery
        try:
            return Replied(self._handler(delivery) or b"")
        except Unintelligible:
            log.exception("message not understood", extra=about(None, topic=delivery.topic))
            return CallFailed(hopeless=True)
        except Exception:
            log.warning(
                "message failed", extra=about(None, topic=delivery.topic, attempt=delivery.attempt), exc_info=True
            )
            return CallFailed(hopeless=delivery.attempt >= MAX_DELIVERIES)


def stop_all(subscriptions: Iterable[Subscription], seconds: float = 5.0) -> None:
    """Stop them together, waiting for all their running handlers at most that long."""
    stopping = list(subscriptions)
    for subscription in stopping:
        subscription.stop(0)
    until = time.monotonic() + seconds
    for subscription in stopping:
        subscription.stop(max(0.0, until - time.monotonic()))
