"""Everything that a cloud is to use is tried before anything starts, all at once, and every problem is named."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from queue import Empty, SimpleQueue

from keystoneauth1.exceptions import ClientException
from pymemcache import Client
from pymemcache.exceptions import MemcacheError

from cell_service.errors import DatabaseUnavailable, DeadlineExceeded, Invalid, QueueUnavailable
from cell_service.rpc.transports import open_transport
from mapping_db.locating.shared_cache import cache_failure
from tools.manage.urls import masked
from tools.up import databases
from tools.up.plan import Plan
from tools.up.seeding import admin_session

SECONDS = 10.0
"""So long may each server take to answer."""
_OWN = ("memory://", "local://")
_POLL_SECONDS = 0.1

Check = Callable[[], str]
"""Answers what is wrong, naming it and its URL without the password; empty when nothing is."""


def check(plan: Plan, say: Callable[[str], None], ended: threading.Event) -> None:
    """Returns when all has answered, or when `ended` is set. Raises Invalid, naming each port that cannot be used, and
    each server that does not answer."""
    servers = list(_servers(plan))
    if servers:
        say(f"trying {len(servers)} server{'s' if len(servers) > 1 else ''} (at most {SECONDS:.0f} s)")
    ports = [partial(_port, name, plan.port(name)) for name in plan.services]
    problems = [problem for problem in _all_at_once([*ports, *servers], ended) if problem]
    if len(problems) == 1:
        raise Invalid(reason=problems[0])
    if problems:
        raise Invalid(reason="\n  ".join([f"{len(problems)} things are in the way:", *sorted(problems)]))


def _servers(plan: Plan) -> Iterator[Check]:
    """The databases, queues, cache and Keystone that are not the cloud's own."""
    for name, url in plan.databases.items():
        if not url.startswith("sqlite"):
            yield partial(_database, name, url)
    for name, url in plan.transports.items():
        if not url.startswith(_OWN):
            yield partial(_queue, name, url)
    if plan.cache_server is not None:
        yield partial(_cache, *plan.cache_server)
    if plan.options.auth not in ("companion", "noauth2"):
        yield partial(_keystone, plan)


def _all_at_once(checks: list[Check], ended: threading.Event) -> Iterator[str]:
    """The answers, as they come, until all are there or `ended` is set. A check that hangs then ends with the
    process."""
    answers: SimpleQueue[str | Exception] = SimpleQueue()

    def run(one: Check) -> None:
        try:
            answers.put(one())
        except Exception as error:  # the edge of a thread
            answers.put(error)
            raise

    for one in checks:
        threading.Thread(target=run, args=(one,), name="preflight", daemon=True).start()
    awaited = len(checks)
    while awaited and not ended.is_set():
        try:
            answer = answers.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
        if isinstance(answer, Exception):
            raise answer
        awaited -= 1
        yield answer


def _port(name: str, port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            return f"port {port} for {name} can't be used: {error.strerror} (try --port-base)"
    return ""


def _database(name: str, url: str) -> str:
    try:
        databases.demand_server(url, SECONDS)
    except DatabaseUnavailable as error:
        return f"the database of {name} can't be used: {error.fields['reason']}"
    return ""


def _queue(name: str, url: str) -> str:
    transport = open_transport(url)
    try:
        transport.ping(timeout=SECONDS)
    except QueueUnavailable as error:
        return f"the queue of {name} can't be used: {error.fields['reason']}"
    except DeadlineExceeded as error:
        return f"the queue of {name} ({masked(url)}) can't be used: {error}"
    finally:
        transport.close()
    return ""


def _cache(host: str, port: int) -> str:
    try:
        with closing(Client((host, port), connect_timeout=SECONDS, timeout=SECONDS)) as client:
            client.version()
    except (OSError, MemcacheError) as error:
        return f"the cache at {host}:{port} can't be used: {cache_failure(error, f'{host}:{port}')}"
    return ""


def _keystone(plan: Plan) -> str:
    """A Keystone that was there before lets the account of the environment in."""
    missing = [name for name in ("OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME") if not os.environ.get(name)]
    if missing:
        return f"--auth {plan.options.auth} needs an account: {', '.join(missing)} of the environment are not set"
    try:
        admin_session(plan, SECONDS).get_token()
    except ClientException as error:
        said = str(error).split(": HTTP")[0]
        return f"the Keystone at {plan.options.auth} does not let {os.environ['OS_USERNAME']} in: {said}"
    return ""
