"""What every transport must do. A subclass gives the fixture `server`: an empty queue server to connect to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from cell_service.errors import DeadlineExceeded, NoConsumer, QueueUnavailable
from cell_service.rpc.transport import MAX_DELIVERIES, Delivery, Transport, Unintelligible
from tests.real.databases import wait_until

LONG = 60.0


class QueueServer(Protocol):
    def connect(self) -> Transport: ...

    def parked(self, topic: str) -> list[bytes]:
        """The messages that no handler could take."""


class Inbox:
    """A handler that keeps what comes, and answers with it backwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> bytes | None:
        with self._lock:
            self.deliveries.append(delivery)
        return delivery.body[::-1] if delivery.wants_reply else None

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in list(self.deliveries)]

    def await_count(self, count: int) -> None:
        wait_until(lambda: len(self.deliveries) >= count, f"{count} messages did not come")


class Gate:
    """A handler that stays inside until told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = self.most = self.entered = 0
        self.open = threading.Event()

    def __call__(self, delivery: Delivery) -> None:
        with self._lock:
            self.entered += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(LONG)
        with self._lock:
            self.inside -= 1

    def await_inside(self, count: int) -> None:
        wait_until(lambda: self.inside == count, f"never {count} messages were handled at once")


def raised_in_thread(act: Callable[[], object]) -> Callable[[], BaseException | None]:
    """Begin it on another thread; the answer waits for the error that it ended with."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(act)
    pool.shutdown(wait=False)
    return lambda: future.exception(LONG)


class TransportSuite:
    @pytest.fixture
    def connect(self, server: QueueServer) -> Iterator[Callable[[], Transport]]:
        opened: list[Transport] = []

        def connect() -> Transport:
            opened.append(server.connect())
            return opened[-1]

        yield connect
        for transport in opened:
            transport.close()

    @pytest.fixture
    def near(self, connect: Callable[[], Transport]) -> Transport:
        return connect()

    @pytest.fixture
    def far(self, connect: Callable[[], Transport]) -> Transport:
        return connect()

    # -- casts ----------------------------------------------------------------------------------

    def test_a_cast_is_delivered(self, near: Transport, far: Transport) -> None:
        inbox = Inbox()
        far.serve("t", inbox)
        near.cast("t", b"hello", timeout=LONG)
        inbox.await_count(1)
        assert inbox.deliveries == [Delivery("t", b"hello", 1, False)]

    def test_a_cast_to_a_topic_that_nobody_ever_served_is_refused(self, near: Transport) -> None:
        with pytest.raises(NoConsumer):
            near.cast("nobody", b"hello", timeout=LONG)

    def test_casts_wait_for_a_consumer(self, near: Transport, far: Transport) -> None:
        far.serve("t", Inbox()).stop()
        for number in range(5):
            near.cast("t", b"%d" % number, timeout=LONG)
        inbox = Inbox()
        far.serve("t", inbox, threads=1)
        inbox.await_count(5)
        assert inbox.bodies == [b"0", b"1", b"2", b"3", b"4"]

    def test_topics_are_kept_apart(self, near: Transport, far: Transport) -> None:
        inboxes = {f"t.{number}": Inbox() for number in range(5)}
        for topic, inbox in inboxes.items():
            far.serve(topic, inbox)
        for topic in inboxes:
            near.cast(topic, topic.encode(), timeout=LONG)
        for topic, inbox in inboxes.items():
            inbox.await_count(1)
            assert inbox.bodies == [topic.encode()]

    def test_topics_and_bodies_may_be_in_any_script(self, near: Transport, far: Transport) -> None:
        inbox = Inbox()
        far.serve("compute.hôte-計算", inbox)
        near.cast("compute.hôte-計算", "наивный 🐘".encode(), timeout=LONG)
        inbox.await_count(1)
        assert inbox.deliveries == [Delivery("compute.hôte-計算", "наивный 🐘".encode(), 1, False)]

    def test_a_large_message_arrives_whole(self, near: Transport, far: Transport) -> None:
        far.serve("t", Inbox())
        body = bytes(range(256)) * 4096
        assert near.call("t", body, timeout=LONG) == body[::-1]

    def test_casts_from_many_threads_all_arrive_once(self, near: Transport, far: Transport) -> None:
        inbox = Inbox()
        far.serve("t", inbox)
        bodies = [b"%d" % number for number in range(400)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda body: near.cast("t", body, timeout=LONG), bodies))
        inbox.await_count(400)
        assert sorted(inbox.bodies) == sorted(bodies)

    # -- calls ----------------------------------------------------------------------------------

    def test_a_call_is_answered(self, near: Transport, far: Transport) -> None:
        inbox = Inbox()
        far.serve("t", inbox)
        assert near.call("t", b"abc", timeout=LONG) == b"cba"
        assert inbox.deliveries == [Delivery("t", b"abc", 1, True)]

    def test_every_caller_gets_its_own_answer(self, near: Transport, far: Transport) -> None:
        far.serve("t", Inbox())
        far.serve("u", lambda delivery: b"u" + delivery.body)
        bodies = [b"%d" % number for number in range(200)]

        def ask(body: bytes) -> tuple[bytes, bytes]:
            return near.call("t", body, timeout=LONG), near.call("u", body, timeout=LONG)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, bodies))
        assert answers == [(body[::-1], b"u" + body) for body in bodies]

    def test_an_answer_may_be_empty(self, near: Transport, far: Transport) -> None:
        far.serve("t", lambda delivery: None)
        assert near.call("t", b"abc", timeout=LONG) == b""

    def test_a_handler_may_call_its_own_queue(self, near: Transport, far: Transport) -> None:
        far.serve("inner", Inbox())
        far.serve("outer", lambda delivery: far.call("inner", delivery.body, timeout=LONG))
        assert near.call("outer", b"abc", timeout=LONG) == b"cba"

    def test_a_call_to_a_topic_that_nobody_ever_served_is_refused(self, near: Transport) -> None:
        with pytest.raises(NoConsumer):
            near.call("nobody", b"hello", timeout=LONG)

    def test_a_call_without_answer_ends_at_its_deadline(self, near: Transport, far: Transport) -> None:
        gate = Gate()
        far.serve("t", gate)
        with pytest.raises(DeadlineExceeded):
            near.call("t", b"abc", timeout=0.05)
        gate.open.set()

    def test_a_call_that_nobody_waits_for_is_dropped(self, near: Transport, far: Transport) -> None:
        far.serve("t", Inbox()).stop()
        with pytest.raises(DeadlineExceeded):
            near.call("t", b"stale", timeout=0.05)
        inbox = Inbox()
        far.serve("t", inbox)
        assert near.call("t", b"fresh", timeout=LONG) == b"hserf"
        assert inbox.bodies == [b"fresh"]

    def test_a_late_answer_reaches_nobody_else(self, near: Transport, far: Transport) -> None:
        began, go_on, late = threading.Event(), threading.Event(), threading.Event()

        def answer(delivery: Delivery) -> bytes:
            if delivery.body == b"late":
                began.set()
                go_on.wait(LONG)
                late.set()
            return delivery.body

        far.serve("t", answer)
        while not began.is_set():  # a call whose time is over before it is handled is dropped
            with pytest.raises(DeadlineExceeded):
                near.call("t", b"late", timeout=0.05)
        go_on.set()
        assert late.wait(LONG)
        assert [near.call("t", b"%d" % number, timeout=LONG) for number in range(5)] == [b"0", b"1", b"2", b"3", b"4"]

    # -- failing handlers -----------------------------------------------------------------------

    def test_a_message_that_fails_comes_again_and_is_then_parked(
        self, server: QueueServer, near: Transport, far: Transport
    ) -> None:
        attempts: list[int] = []

        def handle(delivery: Delivery) -> None:
            if delivery.body == b"bad":
                attempts.append(delivery.attempt)
                raise RuntimeError("on purpose")
            inbox(delivery)

        inbox = Inbox()
        far.serve("t", handle, threads=1)
        near.cast("t", b"bad", timeout=LONG)
        near.cast("t", b"good", timeout=LONG)
        wait_until(lambda: server.parked("t") == [b"bad"], "the message is not parked")
        assert attempts == list(range(1, MAX_DELIVERIES + 1))
        near.cast("t", b"after", timeout=LONG)
        inbox.await_count(2)
        assert inbox.bodies == [b"good", b"after"]
        assert len(attempts) == MAX_DELIVERIES

    def test_a_message_that_fails_once_is_done_the_second_time(self, near: Transport, far: Transport) -> None:
        done = threading.Event()

        def handle(delivery: Delivery) -> None:
            if delivery.attempt == 1:
                raise RuntimeError("on purpose")
            done.set()

        far.serve("t", handle)
        near.cast("t", b"x", timeout=LONG)
        assert done.wait(LONG)

    def test_a_call_whose_handler_fails_once_is_still_answered(self, near: Transport, far: Transport) -> None:
        def handle(delivery: Delivery) -> bytes:
            if delivery.attempt == 1:
                raise RuntimeError("on purpose")
            return b"at last"

        far.serve("t", handle)
        assert near.call("t", b"x", timeout=LONG) == b"at last"

    def test_an_unintelligible_message_is_parked_at_once(
        self, server: QueueServer, near: Transport, far: Transport
    ) -> None:
        attempts: list[int] = []

        def handle(delivery: Delivery) -> None:
            attempts.append(delivery.attempt)
            raise Unintelligible("on purpose")

        far.serve("t", handle)
        near.cast("t", b"\xff\x00", timeout=LONG)
        wait_until(lambda: server.parked("t") == [b"\xff\x00"], "the message is not parked")
        assert attempts == [1]

    # -- several at once ------------------------------------------------------------------------

    def test_no_more_messages_than_threads_are_handled_at_once(self, near: Transport, far: Transport) -> None:
        gate = Gate()
        far.serve("t", gate, threads=3)
        for _ in range(10):
            near.cast("t", b"x", timeout=LONG)
        gate.await_inside(3)
        gate.open.set()
        wait_until(lambda: gate.entered == 10 and gate.inside == 0, "not all were handled")
        assert gate.most == 3

    def test_subscriptions_share_the_messages_of_a_topic(
        self, near: Transport, connect: Callable[[], Transport]
    ) -> None:
        gates = [Gate(), Gate()]
        for gate in gates:
            connect().serve("t", gate, threads=2)
        for _ in range(4):
            near.cast("t", b"x", timeout=LONG)
        for gate in gates:
            gate.await_inside(2)
            gate.open.set()

    def test_a_busy_subscription_does_not_hold_up_others(self, near: Transport, far: Transport) -> None:
        gate = Gate()
        far.serve("busy", gate, threads=2)
        far.serve("t", Inbox(), threads=1)
        for _ in range(50):
            near.cast("busy", b"x", timeout=LONG)
        gate.await_inside(2)
        assert near.call("t", b"abc", timeout=LONG) == b"cba"
        gate.open.set()

    def test_one_connection_serves_very_many_topics(self, near: Transport, far: Transport) -> None:
        before = set(threading.enumerate())
        inbox = Inbox()
        for number in range(500):
            far.serve(f"compute.h{number}", inbox, threads=2)
        assert len(set(threading.enumerate()) - before) < 10
        for number in range(0, 500, 25):
            near.cast(f"compute.h{number}", b"x", timeout=LONG)
        inbox.await_count(20)
        assert {delivery.topic for delivery in inbox.deliveries} == {f"compute.h{n}" for n in range(0, 500, 25)}

    # -- stopping -------------------------------------------------------------------------------

    def test_stopping_leaves_what_was_not_begun_to_others(
        self, near: Transport, far: Transport, connect: Callable[[], Transport]
    ) -> None:
        gate = Gate()
        stopping = far.serve("t", gate, threads=1)
        bodies = [b"%d" % number for number in range(6)]
        for body in bodies:
            near.cast("t", body, timeout=LONG)
        gate.await_inside(1)
        stopping.stop(0)
        inbox = Inbox()
        connect().serve("t", inbox)
        inbox.await_count(5)
        gate.open.set()
        assert sorted(inbox.bodies) == bodies[1:]
        stopping.stop()
        assert gate.entered == 1

    def test_stopping_waits_for_running_handlers(self, near: Transport, far: Transport) -> None:
        gate = Gate()
        stopping = far.serve("t", gate)
        near.cast("t", b"x", timeout=LONG)
        gate.await_inside(1)
        threading.Timer(0.05, gate.open.set).start()
        stopping.stop(LONG)
        assert gate.inside == 0

    def test_a_handler_may_stop_its_own_subscription(self, near: Transport, far: Transport) -> None:
        stopped = threading.Event()

        def handle(delivery: Delivery) -> None:
            subscription.stop(LONG)
            stopped.set()

        subscription = far.serve("t", handle)
        near.cast("t", b"x", timeout=LONG)
        assert stopped.wait(LONG)

    def test_closing_frees_those_who_wait(self, near: Transport, far: Transport) -> None:
        gate = Gate()
        far.serve("t", gate)
        error = raised_in_thread(lambda: near.call("t", b"x", timeout=LONG))
        gate.await_inside(1)
        near.close()
        assert isinstance(error(), QueueUnavailable)
        gate.open.set()

    def test_a_closed_transport_stays_closed(self, near: Transport, far: Transport) -> None:
        far.serve("t", Inbox())
        near.ping(timeout=LONG)
        near.close()
        near.close()
        for use in (
            lambda: near.cast("t", b"x", timeout=LONG),
            lambda: near.call("t", b"x", timeout=LONG),
            lambda: near.ping(timeout=LONG),
            lambda: near.serve("t", Inbox()),
        ):
            with pytest.raises(QueueUnavailable):
                use()

    def test_closing_ends_its_subscriptions(self, near: Transport, far: Transport) -> None:
        inbox, after = Inbox(), Inbox()
        far.serve("t", inbox)
        far.close()
        near.cast("t", b"x", timeout=LONG)
        near.serve("t", after)
        after.await_count(1)
        assert inbox.bodies == []

    def test_a_transport_that_was_never_used_closes(self, near: Transport) -> None:
        near.close()
        with pytest.raises(QueueUnavailable):
            near.ping(timeout=LONG)

    def test_closing_leaves_no_threads_of_the_connection(self, server: QueueServer) -> None:
        before = set(threading.enumerate())
        transport = server.connect()
        transport.ping(timeout=LONG)
        transport.close()
        names = {thread.name for thread in threading.enumerate() if thread not in before}
        assert not names & {"rabbit", "local"}
