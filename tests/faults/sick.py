"""A federation of three cells on real servers, of which each can be made sick: by its line, or in itself.

cell2 has a MariaDB and a RabbitMQ of its own; the others share one of each. In front of everything that may fall sick
stands a line.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol

from bench.sick_line import Line, Lines, Mode
from mapping_db.locating.shared_cache import CacheSettings
from tests.federation.cloud import Federation
from tests.real.databases import mariadb_in
from tests.real.memcached import Memcached
from tests.real.rabbitmq import RabbitMq

SICK = "cell2"
FLEETING = ("probe-", "close-transport", "await-cache")
"""Threads that come and go with a server's health."""


class Part(StrEnum):
    DATABASE = "cell database"
    QUEUE = "cell broker"
    CACHE = "memcached"
    GLOBAL = "global database"
    GLOBAL_QUEUE = "global broker"


class Real(Protocol):
    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class SickCloud:
    """A context manager. `cloud` is the federation; `lines` and `servers` are by part."""

    def __init__(self, hosts: int = 1) -> None:
        self._hosts, self._stack = hosts, ExitStack()
        self._stopped: set[Part] = set()
        self._killed: set[Part] = set()

    def __enter__(self) -> SickCloud:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.heal()
        self._stack.close()

    def _start(self) -> None:
        lines = self._stack.enter_context(Lines())
        databases, brokers = [], []
        for _ in range(2):
            database = mariadb_in(self._directory("db"))
            self._stack.callback(database.stop)
            database.start()
            databases.append(database)
            broker = RabbitMq(self._directory("mq"))
            self._stack.callback(broker.stop)
            broker.start()
            broker.add_user()
            brokers.append(broker)
        self.memcached = Memcached()
        self._stack.callback(self.memcached.stop)
        self.memcached.start()
        (shared, self.database), (shared_broker, self.broker) = databases, brokers
        self.lines: dict[Part, Line] = {
            Part.DATABASE: lines.to(self.database.port),
            Part.QUEUE: lines.to(self.broker.port),
            Part.CACHE: lines.to(self.memcached.port),
            Part.GLOBAL: lines.to(shared.port),
            Part.GLOBAL_QUEUE: lines.to(shared_broker.port),
        }
        urls = {name: shared.create_database() for name in ("global", "cell0", "cell1", "cell3")}
        urls["global"] = self.lines[Part.GLOBAL].url(urls["global"])
        urls[SICK] = self.lines[Part.DATABASE].url(self.database.create_database())
        queues = {name: shared_broker.new_vhost() for name in ("global", "cell0", "cell1", "cell3")}
        queues["global"] = self.lines[Part.GLOBAL_QUEUE].url(queues["global"])
        queues[SICK] = self.lines[Part.QUEUE].url(self.broker.new_vhost())
        cache = CacheSettings(
            enabled=True, backend="dogpile.cache.pymemcache",
            memcache_servers=(f"127.0.0.1:{self.lines[Part.CACHE].port}",),
        )  # fmt: skip
        self.cloud = Federation(
            self._directory("cloud"), cells=3, hosts=self._hosts, database=urls.__getitem__,
            queue=queues.__getitem__, cache=cache,
        )  # fmt: skip
        self._stack.callback(self.cloud.close)

    def _directory(self, prefix: str) -> Path:
        return Path(self._stack.enter_context(TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)))

    # -- sickness -------------------------------------------------------------------------------------

    def fall_sick(self, part: Part, mode: Mode, delay_seconds: float = 0.0) -> None:
        self.lines[part].set(mode, delay_seconds)

    def stop(self, part: Part) -> None:
        """SIGSTOP to the server itself."""
        self._stopped.add(part)
        self._server(part).freeze()

    def kill(self, part: Part) -> None:
        """kill -9 of the server itself."""
        self._killed.add(part)
        if part is Part.DATABASE:
            self.database.kill()
        elif part is Part.QUEUE:
            self.broker.kill()
        else:
            self.memcached.stop()

    def heal(self) -> None:
        """Every server answers afterwards."""
        for part in self._stopped:
            self._server(part).thaw()
        for part in self._killed:
            start: dict[Part, Callable[[], None]] = {
                Part.DATABASE: self.database.start, Part.QUEUE: self.broker.start, Part.CACHE: self.memcached.start,
            }  # fmt: skip
            start[part]()
        self._stopped.clear()
        self._killed.clear()
        for line in self.lines.values():
            if line.mode is not Mode.HEALTHY:
                line.set(Mode.HEALTHY)

    def _server(self, part: Part) -> Real:
        servers: dict[Part, Real] = {
            Part.DATABASE: self.database, Part.QUEUE: self.broker, Part.CACHE: self.memcached,
        }  # fmt: skip
        return servers[part]

    @property
    def cache_is_missed(self) -> bool:
        """Whether the cloud goes on without memcached."""
        shield: Any = self.cloud.cloud.locator._shared
        return bool(shield.down)

    # -- what must not grow ---------------------------------------------------------------------------

    def fleeting_threads(self) -> int:
        """Of these, and of connections to RabbitMQ."""
        names = [thread.name for thread in threading.enumerate()]
        return sum(name == "rabbit" or name.startswith(FLEETING) for name in names)
