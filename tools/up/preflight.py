"""Queues and cache that a cloud is to use are tried before anything starts: a wrong one is named at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from pymemcache import Client
from pymemcache.exceptions import MemcacheError

from cell_service.errors import DeadlineExceeded, Invalid, QueueUnavailable
from cell_service.rpc.transports import open_transport
from tools.manage.urls import masked
from tools.up.plan import Plan

SECONDS = 10.0
_OWN = ("memory://", "local://")


def check(plan: Plan) -> None:
    """Raises Invalid, naming what does not answer, and its URL without the password."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_check_queue, plan.transports.items()))
    if plan.cache_server is not None:
        _check_cache(*plan.cache_server)


def _check_queue(named: tuple[str, str]) -> None:
    name, url = named
    if url.startswith(_OWN):
        return
    transport = open_transport(url)
    try:
        transport.ping(timeout=SECONDS)
    except (QueueUnavailable, DeadlineExceeded) as error:
        raise Invalid(reason=f"the queue of {name} ({masked(url)}) can't be used: {error}") from error
    finally:
        transport.close()


def _check_cache(host: str, port: int) -> None:
    try:
        with closing(Client((host, port), connect_timeout=SECONDS, timeout=SECONDS)) as client:
            client.version()
    except (OSError, MemcacheError) as error:
        raise Invalid(reason=f"the cache at {host}:{port} can't be used: {error}") from error
