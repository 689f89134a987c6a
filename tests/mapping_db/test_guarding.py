"""Breaker, bulkhead and guard by themselves."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cell_service.context import SYSTEM_CLOCK, Deadline, ManualClock
from cell_service.errors import CellUnavailable
from mapping_db.cells.breaker import LONGEST_PAUSE, Breaker
from mapping_db.cells.bulkhead import Bulkhead, Flight, Full, Overdue, Refused
from mapping_db.cells.guard import PROBE_CHECKS, Guard, ProbeFailed
from tests.mapping_db.conftest import soon
from tests.real.databases import wait_until


class Imagined:
    """A server whose answers to probes a test decides; it says what was done to it."""

    def __init__(self) -> None:
        self.answers = threading.Semaphore(0)
        self.failure: ProbeFailed | None = None
        self.cut = threading.Event()
        self.cut_flights: list[Flight] = []
        self.probed = threading.Semaphore(0)

    def probe(self) -> None:
        self.probed.release()
        assert self.answers.acquire(timeout=60)
        if self.failure is not None:
            raise self.failure

    def cut_off(self) -> None:
        self.cut.set()

    def cut_one(self, flight: Flight) -> None:
        self.cut_flights.append(flight)

    def shut(self) -> None: ...


def guard_of(server: Imagined, clock: ManualClock) -> Guard:
    return Guard("cell1", "database", server, clock, places=2, waiting=1)


def answered(guard: Guard, server: Imagined) -> None:
    """Let the probe under way end, and wait for it."""
    assert server.probed.acquire(timeout=60)
    server.answers.release()
    assert guard._probe is not None
    for thread in threading.enumerate():
        if thread.name.startswith("probe-"):
            thread.join(60)


def test_an_open_breaker_wants_probes_at_growing_intervals_until_one_is_answered() -> None:
    clock = ManualClock()
    breaker = Breaker("cell1", "database", clock)
    assert not breaker.wants_probe()
    assert breaker.open("frozen")
    pauses = []
    for _ in range(8):
        assert breaker.is_open
        assert not breaker.wants_probe()
        start = clock.monotonic()
        while not breaker.wants_probe():
            clock.advance(0.1)
        pauses.append(clock.monotonic() - start)
        assert not breaker.open("still frozen")
    assert pauses[0] < 1
    assert pauses[0] < pauses[-1] < LONGEST_PAUSE * 1.3
    breaker.close()
    assert not breaker.is_open
    assert breaker.open("again")


def test_its_reason_is_logged_without_passwords(caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(Imagined(), ManualClock())
    with caplog.at_level(logging.WARNING):
        guard.lost("no route to mysql://nova:s3kret@h/nova", unreachable=False)
    assert [record.about["reason"] for record in caplog.records] == ["no route to mysql://nova:***@h/nova"]  # type: ignore[attr-defined]
    with pytest.raises(CellUnavailable) as refused, guard.flight(soon()):
        pass
    assert "s3kret" not in str(refused.value.fields)


def test_a_full_bulkhead_lets_a_few_wait_and_refuses_the_rest() -> None:
    bulkhead = Bulkhead(1, 1, SYSTEM_CLOCK, lambda: "")
    first = bulkhead.enter(soon())
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(bulkhead.enter, soon())
        wait_until(lambda: bulkhead._waiting == 1, "nobody waits")
        with pytest.raises(Full):
            bulkhead.enter(soon())
        bulkhead.leave(first)
        entered = second.result(timeout=60)
    assert bulkhead.flights() == [entered]


def test_who_waits_for_a_place_waits_no_longer_than_his_deadline() -> None:
    bulkhead = Bulkhead(1, 1, SYSTEM_CLOCK, lambda: "")
    bulkhead.enter(soon())
    with pytest.raises(Overdue):
        bulkhead.enter(Deadline.after(0.01))


def test_who_waits_for_a_place_is_refused_when_the_breaker_opens() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    with ThreadPoolExecutor(1) as pool, guard.flight(soon()), guard.flight(soon()):
        waiting = pool.submit(lambda: guard.bulkhead.enter(soon()))
        wait_until(lambda: guard.bulkhead._waiting == 1, "nobody waits")
        guard.lost("gone", unreachable=True)
        with pytest.raises(Refused):
            waiting.result(timeout=60)
    assert server.cut.is_set()


def test_slow_work_on_a_healthy_server_goes_on() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    with guard.flight(Deadline.after(60, clock)):
        clock.advance(0.1)
        guard.check()
        assert not server.probed.acquire(blocking=False)
        clock.advance(0.2)
        guard.check()
        answered(guard, server)
        guard.check()
    assert not guard.breaker.is_open
    assert not server.cut.is_set()


def test_a_server_that_was_used_counts_the_seconds_since_its_last_probe_until_it_is_down() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    assert guard.unheard_seconds() is None, "nothing has used it yet"
    with guard.flight(Deadline.after(60, clock)):
        pass
    assert guard.unheard_seconds() == float("inf")
    guard.suspect()
    answered(guard, server)
    clock.advance(14)
    assert guard.unheard_seconds() == 14
    server.failure = ProbeFailed("refused", unreachable=True)
    guard.suspect()
    answered(guard, server)
    assert guard.unheard_seconds() is None


def test_a_silent_server_is_found_out_while_the_first_caller_waits() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    with guard.flight(Deadline.after(60, clock)):
        clock.advance(0.3)
        for _ in range(int(PROBE_CHECKS) + 2):
            guard.check()
        assert server.cut.is_set()
        assert guard.breaker.is_open
    answered(guard, server)
    assert guard.breaker.is_open, "an answer that came too late is none"
    clock.advance(1)
    guard.check()
    answered(guard, server)
    assert not guard.breaker.is_open


def test_a_server_that_answers_no_is_refused_but_its_users_are_left_alone() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    server.failure = ProbeFailed("Too many connections", unreachable=False)
    with guard.flight(Deadline.after(60, clock)):
        clock.advance(0.3)
        guard.check()
        answered(guard, server)
        assert not server.cut.is_set()
    assert guard.health().reason == "Too many connections"


def test_a_caller_whose_deadline_is_over_is_cut_off_alone() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    with guard.flight(Deadline.after(1, clock)) as late, guard.flight(Deadline.after(60, clock)):
        clock.advance(2)
        guard.check()
        guard.check()
        assert server.cut_flights == [late]
        answered(guard, server)
    assert not server.cut.is_set()


def test_a_process_that_gets_no_processor_time_does_not_blame_the_server() -> None:
    server, clock = Imagined(), ManualClock()
    guard = guard_of(server, clock)
    with guard.flight(Deadline.after(60, clock)):
        clock.advance(0.3)
        for _ in range(int(PROBE_CHECKS) + 2):
            guard.check(weight=0.1)
        answered(guard, server)
    assert not server.cut.is_set()
    assert not guard.breaker.is_open
