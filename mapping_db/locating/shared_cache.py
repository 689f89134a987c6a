"""The cache of locations that processes share: memcached, as a backend of dogpile.cache.

Values are raw bytes (mapping_db.locations), stored through the backend's own interface: the region's pickles and time
stamps would only cost, since epochs decide what is newer. No request fails because a cache does: see Shield.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dogpile.cache import make_region, register_backend
from dogpile.cache.api import NO_VALUE, CacheBackend
from dogpile.cache.proxy import ProxyBackend
from oslo_config import cfg

from cell_service import failures
from cell_service.backoff import Backoff
from cell_service.config import option
from cell_service.context import SYSTEM_CLOCK, Clock
from cell_service.errors import Invalid
from cell_service.failures import NETWORK, kind
from cell_service.logs import about
from mapping_db.locations import epoch_of

log = logging.getLogger(__name__)

_MEMCACHED = {
    "memcached", "dogpile.cache.memcached", "dogpile.cache.pymemcache", "dogpile.cache.bmemcached",
    "oslo_cache.memcache_pool",
}  # fmt: skip
_FAILURES = (
    kind("the server speaks no memcached", "correct host and port", "Memcache(Unknown|Server|Client|Illegal)"),
    kind("the connection broke", "see whether memcached runs", "MemcacheUnexpectedClose"),
    *NETWORK,
)  # fmt: skip
_PROCESS_ONLY = {"memory", "dogpile.cache.memory", "dogpile.cache.null"}


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """[cache], under oslo.cache's names. Every process keeps a cache of its own in any case."""

    GROUP: ClassVar[str] = "cache"
    enabled: bool = option(
        cfg.BoolOpt(
            "enabled",
            default=False,
            help="All processes of the global side share what they know of servers' cells in memcached.",
        )
    )
    backend: str = option(
        cfg.StrOpt("backend", default="dogpile.cache.null", help="dogpile's name for the way to memcached.")
    )
    memcache_servers: tuple[str, ...] = option(
        cfg.ListOpt("memcache_servers", default=["localhost:11211"], help="Addresses of the memcached servers.")
    )
    expiration_time: int = option(
        cfg.IntOpt("expiration_time", default=600, min=1, help="Seconds for which an entry is kept.")
    )
    memcache_socket_timeout: float = option(
        cfg.FloatOpt(
            "memcache_socket_timeout",
            default=0.05,
            help="Seconds to wait for memcached before a request goes on without it.",
        )
    )


def open_shared(settings: CacheSettings, clock: Clock = SYSTEM_CLOCK) -> CacheBackend | None:
    """The cache shared with other processes, connecting when it is used; None when there is none.

    Raises Invalid for an unknown backend.
    """
    if not settings.enabled or settings.backend in _PROCESS_ONLY:
        return None
    if settings.backend not in _MEMCACHED:
        raise Invalid(reason=f"[cache] backend: {settings.backend} is not supported")
    register_backend("polycell.memcached", __name__, "Memcached")
    region = make_region(name="locations").configure(
        "polycell.memcached",
        arguments={
            "servers": tuple(_address(server) for server in settings.memcache_servers),
            "seconds": settings.memcache_socket_timeout,
            "expire": settings.expiration_time,
        },
        wrap=[Shield(clock, ", ".join(settings.memcache_servers))],
    )
    return region.backend


class Memcached(CacheBackend):  # type: ignore[misc]  # dogpile is not typed for mypy
    """Locations in memcached. `set` never replaces what is as new or newer (gets and cas)."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        from pymemcache.client.base import PooledClient
        from pymemcache.client.hash import HashClient

        servers, seconds = arguments["servers"], arguments["seconds"]
        self._expire = arguments["expire"]
        options = {"connect_timeout": seconds, "timeout": seconds, "no_delay": True, "default_noreply": False}
        if len(servers) == 1:
            self._client = PooledClient(servers[0], **options)
        else:
            self._client = HashClient(servers, use_pooling=True, retry_attempts=0, dead_timeout=10, **options)

    def get(self, key: str) -> Any:
        found = self._client.get(key)
        return NO_VALUE if found is None else found

    def get_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        wanted = list(keys)
        found = self._client.get_many(wanted)
        return [found.get(key, NO_VALUE) for key in wanted]

    def set(self, key: str, value: Any) -> None:
        while True:  # it ends: each failure is due to another write, and epochs only grow
            there, token = self._client.gets(key)
            if there is None:
                if self._client.add(key, value, expire=self._expire):
                    return
            elif epoch_of(there) >= epoch_of(value) or self._client.cas(key, value, token, expire=self._expire):
                return

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Add missing entries, without waiting for the answer; existing ones stay."""
        for key, value in mapping.items():
            self._client.add(key, value, expire=self._expire, noreply=True)

    def delete(self, key: str) -> None:
        self._client.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._client.delete(key)


class CompareFirst(ProxyBackend):  # type: ignore[misc]
    """Makes `set` of a backend of one process (dogpile's memory) keep newer values, as Memcached.set does."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def set(self, key: str, value: Any) -> None:
        with self._lock:
            there = self.proxied.get(key)
            if there is NO_VALUE or epoch_of(there) < epoch_of(value):
                self.proxied.set(key, value)

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        for key, value in mapping.items():
            self.set(key, value)


class Shield(ProxyBackend):  # type: ignore[misc]
    """A cache that fails is treated as empty: the first request to notice waits for it, then none does.

    While it is down a thread probes it at intervals, and it is used again when it answers.
    """

    FIRST_PAUSE, LONGEST_PAUSE = 0.5, 1.0

    def __init__(self, clock: Clock = SYSTEM_CLOCK, where: str = "this process") -> None:
        """`where`: the addresses of the cache, for the log."""
        super().__init__()
        self._clock, self._where = clock, where
        self._lock = threading.Lock()
        self.down = False

    def get(self, key: str) -> Any:
        if not self.down:
            try:
                return self.proxied.get(key)
            except Exception as error:  # noqa: BLE001  no failure of a cache is a request's
                self._failed(error)
        return NO_VALUE

    def get_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        wanted = list(keys)
        if not self.down:
            try:
                return list(self.proxied.get_multi(wanted))
            except Exception as error:  # noqa: BLE001
                self._failed(error)
        return [NO_VALUE] * len(wanted)

    def set(self, key: str, value: object) -> None:
        if not self.down:
            try:
                self.proxied.set(key, value)
            except Exception as error:  # noqa: BLE001
                self._failed(error)

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        if not self.down:
            try:
                self.proxied.set_multi(mapping)
            except Exception as error:  # noqa: BLE001
                self._failed(error)

    def delete(self, key: str) -> None:
        if not self.down:
            try:
                self.proxied.delete(key)
            except Exception as error:  # noqa: BLE001
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if self.down:
                return
            self.down = True
        log.warning(
            "the mapping cache is down, going on without", extra=about(None, reason=cache_failure(error, self._where))
        )
        threading.Thread(target=self._await_return, name="await-cache", daemon=True).start()

    def _await_return(self) -> None:
        pauses = Backoff(self.FIRST_PAUSE, self.LONGEST_PAUSE, spread=(0.8, 1.2))
        attempt, never = 1, threading.Event()
        while True:
            self._clock.wait(never, pauses.pause(attempt))
            try:
                self.proxied.get("pc-probe")
            except Exception:  # noqa: BLE001  still down, as was logged
                attempt += 1
                continue
            self.down = False
            log.info("the mapping cache is back")
            return


def cache_failure(error: Exception, where: str) -> str:
    """Why the cache at these addresses can't be used, and what to do."""
    text = str(error) or type(error).__name__
    return failures.sentence(failures.find(_FAILURES, f"{type(error).__name__}: {text}"), text, where)


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.removeprefix("inet6:").rpartition(":")
    if not host or not port.isdigit():
        raise Invalid(reason=f"[cache] memcache_servers: {server} is not host:port")
    return host.strip("[]"), int(port)
