"""Loops: duties when they are due, again after failures, at once when they are triggered."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cell_service.context import ManualClock
from cell_service.errors import Unavailable
from cell_service.loop import Duty, Loop


class JumpingClock(ManualClock):
    """Waits end at once, and the time has passed. The loop that waits ends at `end`."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end
        self.loop: Loop | None = None

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        if self.loop is not None and self.monotonic() >= self._end:
            self.loop.stopping.set()
        return event.is_set()


class Diary:
    """When each duty was done, by its name."""

    def __init__(self, end: float) -> None:
        self.clock = JumpingClock(end)
        self.lines: list[tuple[float, str]] = []

    def duty(
        self,
        name: str,
        seconds: float | Callable[[], float],
        act: Callable[[], object] = lambda: None,
        delay: float = 0,
    ) -> Duty:
        def work() -> object:
            self.lines.append((self.clock.monotonic(), name))
            return act()

        return Duty(name, work, seconds, delay)

    def run(self, *duties: Duty, retry_seconds: float | None = None) -> list[tuple[float, str]]:
        loop = self.clock.loop = Loop("some", duties, self.clock, retry_seconds=retry_seconds)
        loop.start()
        loop.join(30)
        return self.lines


def fail(error: Exception) -> None:
    raise error


def test_each_duty_is_done_when_it_is_due() -> None:
    diary = Diary(end=7)
    assert diary.run(diary.duty("often", 2), diary.duty("late", 10, delay=3)) == [
        (0, "often"), (2, "often"), (3, "late"), (4, "often"), (6, "often"),
    ]  # fmt: skip


def test_a_pause_may_vary() -> None:
    diary = Diary(end=8)
    pauses = iter((1.0, 3.0, 5.0))
    assert [at for at, _ in diary.run(diary.duty("work", lambda: next(pauses)))] == [0, 1, 4]


def test_what_a_duty_answers_is_nothing_to_its_loop() -> None:
    diary = Diary(end=3)
    assert [at for at, _ in diary.run(diary.duty("work", 2, lambda: 0))] == [0, 2]


@pytest.mark.parametrize("error", [Unavailable(reason="away"), ValueError("a bug")])
def test_what_fails_is_done_again_and_hinders_no_other(error: Exception) -> None:
    diary = Diary(end=4)
    duties = diary.duty("bad", 60, lambda: fail(error)), diary.duty("good", 60)
    assert diary.run(*duties, retry_seconds=1.5) == [(0, "bad"), (0, "good"), (1.5, "bad"), (3, "bad")]


def test_a_trigger_makes_every_duty_due() -> None:
    diary = Diary(end=100)
    triggers = iter((True, False))

    def trigger() -> None:
        if next(triggers, False):
            assert diary.clock.loop is not None
            diary.clock.loop.trigger()

    assert diary.run(diary.duty("one", 60, trigger), diary.duty("other", 90))[:4] == [
        (0, "one"), (0, "other"), (0, "one"), (0, "other"),
    ]  # fmt: skip


def test_a_stopped_loop_does_no_more_and_may_be_stopped_again() -> None:
    began, lines = threading.Event(), []

    def work() -> None:
        lines.append(1)
        began.set()

    loop = Loop("some", [Duty("work", work, 1000)], ManualClock())
    loop.stop()
    loop = Loop("some", [Duty("work", work, 1000)], ManualClock())
    loop.start()
    assert began.wait(30)
    loop.stop()
    loop.stop()
    assert lines == [1]
