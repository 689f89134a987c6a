"""The parts of database drivers that SQLAlchemy does not cover: connecting in bounded time, detecting that an idle
connection is dead, and cutting a connection off while another thread waits on it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pymysql
from pymysql.constants import CR, SERVER_STATUS

_SLICE_SECONDS = 0.05
_LATENESS_EXPONENT = 2
"""Waits are made in slices. A slice that took n times as long as it should counts as 1/n² of one: this process gets
no processor time, and the server may have answered long ago."""


class _MysqlConnection(pymysql.Connection):  # generic in the stubs only
    """Sends a ROLLBACK only when there is something to roll back: plain reads cost one round trip."""

    server_status: int

    def rollback(self) -> None:
        if self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            super().rollback()


class OpenConnections:
    """The driver's connections of one engine, so that all can be cut off at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, raw: object) -> None:
        with self._lock, contextlib.suppress(TypeError):  # sqlite3's cannot be referenced weakly, nor are they stuck
            self._open.add(raw)

    def cut_all(self) -> None:
        with self._lock:
            found = list(self._open)
        for raw in found:
            cut(raw)


def connect_mysql(options: dict[str, Any], connect_seconds: float, read_seconds: float, opened: OpenConnections) -> Any:
    """A connection at READ COMMITTED, in UTC. Each answer of the handshake is awaited at most `connect_seconds`."""
    options = {**options, "connect_timeout": connect_seconds}
    try:
        raw = _MysqlConnection(
            **options, autocommit=True, defer_connect=True, read_timeout=connect_seconds, write_timeout=connect_seconds
        )
    except OSError as error:  # files of certificates
        raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, f"{error} (files of certificates)") from error
    opened.add(raw)
    raw.connect()
    try:
        raw.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        raw.query("SET time_zone = '+00:00'")
    except BaseException:
        raw._force_close()  # type: ignore[attr-defined]
        raise
    raw._read_timeout = raw._write_timeout = read_seconds  # type: ignore[attr-defined]
    return raw


def connect_postgresql(connect: Callable[[], Any], connect_seconds: float, opened: OpenConnections) -> Any:
    """A connection that does not begin transactions by itself.

    The driver's own time-out is two seconds at least, so it connects on a thread which is left behind when it takes
    longer than `connect_seconds`.
    """
    import psycopg

    connecting: Future[Any] = Future()

    def work() -> None:
        try:
            raw = connect()
            raw.autocommit = True
        except Exception as error:  # noqa: BLE001  the edge of a thread; the waiter raises it
            connecting.set_exception(error)
        else:
            connecting.set_result(raw)

    threading.Thread(target=work, name="connect-postgresql", daemon=True).start()
    left = connect_seconds
    while left > 0:
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            raw = connecting.result(timeout=_SLICE_SECONDS)
            opened.add(raw)
            return raw
        left -= _SLICE_SECONDS * (_SLICE_SECONDS / max(time.monotonic() - began, _SLICE_SECONDS)) ** _LATENESS_EXPONENT
    connecting.add_done_callback(lambda late: late.exception() or late.result().close())
    raise psycopg.OperationalError(f"no connection within {connect_seconds} seconds")


def connect_sqlite(arguments: Sequence[Any], options: dict[str, Any]) -> sqlite3.Connection:
    """A connection with a write-ahead log, so that readers never wait, and without the driver's own transactions.

    What is deleted is overwritten, in the file at once, and in the log when it begins again from its start.
    """
    raw: sqlite3.Connection = sqlite3.connect(*arguments, **options)
    raw.isolation_level = None
    if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        with contextlib.suppress(sqlite3.OperationalError):  # another connection is just doing it
            raw.execute("PRAGMA journal_mode=WAL")
    raw.execute("PRAGMA synchronous=NORMAL")
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA secure_delete=ON")
    raw.execute("PRAGMA journal_size_limit=0")
    return raw


def is_dead(raw: object) -> bool:
    """Whether the server has closed an idle connection (or sent something unexpected, which counts as closing)."""
    number = _descriptor(raw)
    if number is None:
        return False
    poll = select.poll()
    poll.register(number, select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def cut(raw: object) -> None:
    """Shut the connection's socket down: a thread that waits on it gets an error at once. Does not close it."""
    if isinstance(raw, sqlite3.Connection):
        with contextlib.suppress(sqlite3.Error):
            raw.interrupt()
        return
    number = _descriptor(raw)
    if number is None:
        return
    with contextlib.suppress(OSError):
        copy = os.dup(number)  # the owner may close its own meanwhile
        with contextlib.ExitStack() as cleanup:
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                cleanup.callback(os.close, copy)
                return
            cleanup.enter_context(socket.socket(fileno=copy)).shutdown(socket.SHUT_RDWR)


def _descriptor(raw: object) -> int | None:
    """The number of the connection's socket, None when it has none (any more)."""
    if isinstance(raw, pymysql.Connection):
        sock = getattr(raw, "_sock", None)
        number = -1 if sock is None else sock.fileno()
        return None if number < 0 else number
    pgconn = getattr(raw, "pgconn", None)
    if pgconn is None:
        return None
    try:
        return int(pgconn.socket)
    except Exception:  # noqa: BLE001  libpq's connection is closed
        return None


def server_answered(error: BaseException | None) -> bool:
    """Whether an error of SQLAlchemy's is the server's own answer (wrong password, too many connections), and not a
    time-out or a failed connection."""
    original = getattr(error, "orig", None)
    if original is None:
        return False
    code = original.args[0] if original.args else None
    if isinstance(code, int):
        return not 2000 <= code < 3000  # the client's own codes
    return getattr(original, "sqlstate", None) is not None or "FATAL:" in str(original)
