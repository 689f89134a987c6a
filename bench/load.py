"""A light load generator: keep-alive HTTP/1.1 on raw sockets, since it shares the processors with what it measures."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """An answer, and how long it took."""

    status: int
    body: bytes
    seconds: float


@dataclass(slots=True)
class Figures:
    """What a run gave. Latencies are of answers below 400; everything else is an error."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of the generator itself."""
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        done = len(self.latencies)
        return {
            "requests": done,
            "per_second": round(done / self.seconds, 1) if self.seconds else 0.0,
            "p50_ms": milliseconds(percentile(self.latencies, 50)),
            "p99_ms": milliseconds(percentile(self.latencies, 99)),
            "max_ms": milliseconds(max(self.latencies, default=0.0)),
            "errors": sum(self.errors.values()),
            "errors_by_kind": dict(self.errors),
            "generator_cpu_share": round(self.cpu_seconds / self.seconds, 3) if self.seconds else 0.0,
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def request(
    method: str, host: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """The bytes of a request, made once and sent often."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time; opened by `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._needed = 0
        self._head = 0
        self._chunked = False
        self._bodiless = False
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def connect(cls, host: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await asyncio.wait_for(loop.create_connection(cls, host, port), CONNECT_SECONDS)
        return made

    async def ask(self, sent: bytes) -> TimedAnswer:
        """Raises ConnectionError when the server hangs up, TimeoutError."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed")
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        self._bodiless = sent.startswith(b"HEAD ")
        begun = time.perf_counter()
        self._transport.write(sent)
        timer = loop.call_later(ANSWER_SECONDS, self._late)
        try:
            status, body = await self._waiter
        finally:
            timer.cancel()
        return TimedAnswer(status, body, time.perf_counter() - begun)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._head:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._begin(bytes(self._buffer[:end]).lower(), end + 4)
        if self._chunked:
            if self._buffer.endswith(b"0\r\n\r\n"):
                self._finish(_joined(bytes(self._buffer[self._head :])))
        elif len(self._buffer) >= self._needed:
            self._finish(bytes(self._buffer[self._head : self._needed]))

    def _begin(self, head: bytes, body_at: int) -> None:
        self._head = body_at
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        at = head.find(b"\r\ncontent-length:")
        length = 0
        if at >= 0 and not self._bodiless and head[9:12] not in (b"204", b"304"):
            length = int(head[at + 17 :].partition(b"\r\n")[0])
        self._needed = body_at + length

    def _finish(self, body: bytes) -> None:
        status = int(self._buffer[9:12])
        self._buffer.clear()
        self._head = self._needed = 0
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result((status, body))

    def _late(self) -> None:
        self._fail(TimeoutError("no answer"))
        self.close()

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


def _joined(chunks: bytes) -> bytes:
    found, at = [], 0
    while at < len(chunks):
        end = chunks.index(b"\r\n", at)
        size = int(chunks[at:end].split(b";")[0], 16)
        found.append(chunks[end + 2 : end + 2 + size])
        at = end + 4 + size
        if not size:
            break
    return b"".join(found)


async def for_seconds(
    host: str, port: int, requests: Sequence[bytes], *, concurrency: int, seconds: float, warm_seconds: float = 0.0
) -> Figures:
    """Send the requests round and round on `concurrency` connections; what the first seconds gave is not counted."""
    begins = time.perf_counter() + warm_seconds
    figures = Figures()

    async def worker(first: int) -> None:
        at = first
        connection: Connection | None = None
        while (now := time.perf_counter()) < begins + seconds:
            connection = await _ask(
                host, port, requests[at % len(requests)], connection, figures, counted=now >= begins
            )
            at += concurrency
        if connection is not None:
            connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(worker(number) for number in range(concurrency)))

    running = asyncio.ensure_future(all_of_them())
    await asyncio.sleep(max(0.0, begins - time.perf_counter()))
    cpu, begun = time.process_time(), time.perf_counter()
    await running
    figures.seconds, figures.cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return figures


async def each_once(
    host: str, port: int, requests: Sequence[bytes], *, concurrency: int
) -> tuple[Figures, list[TimedAnswer | None]]:
    """Send each request once. The answers in the order of the requests, None where there was none."""
    figures = Figures()
    answers: list[TimedAnswer | None] = [None] * len(requests)
    left = iter(range(len(requests)))

    async def worker() -> None:
        connection: Connection | None = None
        for at in left:
            connection = await _ask(host, port, requests[at], connection, figures, counted=True, kept=(answers, at))
        if connection is not None:
            connection.close()

    cpu, begun = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    figures.seconds, figures.cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return figures, answers


async def _ask(
    host: str,
    port: int,
    sent: bytes,
    connection: Connection | None,
    figures: Figures,
    *,
    counted: bool,
    kept: tuple[list[TimedAnswer | None], int] | None = None,
) -> Connection | None:
    """The connection to go on with, None when a new one is needed."""
    try:
        if connection is None:
            connection = await Connection.connect(host, port)
        answer = await connection.ask(sent)
    except (OSError, TimeoutError) as error:
        figures.errors[type(error).__name__] += 1
        await asyncio.sleep(0.01)
        return None
    if kept is not None:
        kept[0][kept[1]] = answer
    if answer.status >= 400:
        figures.errors[str(answer.status)] += 1
    elif counted:
        figures.latencies.append(answer.seconds)
    return connection
