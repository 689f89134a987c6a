"""Workers shared by subscriptions: how many there are, and what a quiet bus costs."""

from __future__ import annotations

import threading
import tracemalloc

from cell_service.rpc.memory import Bus
from cell_service.rpc.transport import MAX_RETURNS, Delivery
from cell_service.rpc.workers import GivenBack, Outcome, PendingDelivery, Replied, Serving, Workers
from tests.real.databases import wait_until
from tests.suites.transport import LONG, Gate, Inbox


def test_no_more_threads_are_made_than_there_is_work() -> None:
    workers, names = Workers("few"), set()
    for _ in range(50):
        done = threading.Event()
        workers.submit(lambda done=done: (names.add(threading.get_ident()), done.set()))  # type: ignore[misc]
        assert done.wait(LONG)
    assert len(names) < 10


def test_no_more_threads_are_made_than_allowed() -> None:
    workers, gate = Workers("bound", limit=3), Gate()
    for _ in range(10):
        workers.submit(lambda: gate(Delivery("t", b"", 1, False)))
    gate.await_inside(3)
    gate.open.set()
    wait_until(lambda: gate.entered == 10 and gate.inside == 0, "work was forgotten")
    assert gate.most == 3


def test_work_that_raises_ends_no_thread() -> None:
    workers, done = Workers("hardy", limit=1), threading.Event()
    workers.submit(lambda: [][1])
    workers.submit(done.set)
    assert done.wait(LONG)


def test_thousands_of_idle_subscriptions_cost_no_threads_and_little_memory() -> None:
    bus = Bus()
    transport, inbox = bus.connect(), Inbox()
    tracemalloc.start()
    before = set(threading.enumerate())
    for number in range(1000):
        transport.serve(f"compute.h{number}", inbox)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(threading.enumerate()) - before) < 10
    assert kept / 1000 < 4096
    for number in range(1000):
        bus.connect().cast(f"compute.h{number}", b"x", timeout=LONG)
    inbox.await_count(1000)
    transport.close()


def test_what_a_closed_serving_gets_is_given_back() -> None:
    outcomes: list[Outcome] = []
    serving = Serving(Workers("closed"), lambda delivery: delivery.body, 1)
    task = PendingDelivery(Delivery("t", b"x", 1, True), outcomes.append)
    serving.take(task)
    wait_until(lambda: outcomes == [Replied(b"x")], "it was not handled")
    serving.close()
    serving.take(task)
    assert outcomes[1:] == [GivenBack()]


def test_a_message_that_always_comes_back_unhandled_is_parked_in_the_end() -> None:
    bus = Bus()
    rounds = 0

    def lose(consumer: object, message: object) -> None:
        nonlocal rounds
        rounds += 1
        waiting.append((consumer, message))

    waiting: list[tuple[object, object]] = []
    bus.consume("t", lose, 1)
    bus.connect().cast("t", b"deadly", timeout=LONG)
    while waiting:
        bus.settle(*waiting.pop(), GivenBack())  # type: ignore[arg-type]
    assert list(bus.parked["t"]) == [b"deadly"]
    assert rounds == MAX_RETURNS + 1
