"""Consoles by the database and the queue of their cell: for a proxy that serves that cell alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection

from cell_service.context import SYSTEM_CLOCK, Clock, Context, Deadline, new_request_id
from cell_service.db import console_tokens
from cell_service.errors import (
    ConsoleTypeUnavailable,
    InstanceNotFound,
    InstanceNotReady,
    NoConsumer,
    Unavailable,
)
from cell_service.model.console import ConsoleToken
from cell_service.rpc.compute import Compute
from cell_service.rpc.contract import client
from cell_service.rpc.transport import Transport

SECONDS = 10.0
"""The most that a proxy waits for a token's console to be found."""
GONE = (InstanceNotFound, InstanceNotReady, ConsoleTypeUnavailable)
"""The answers of a host that has no such console any more."""


def proxy_context() -> Context:
    """The context of a proxy's own calls."""
    return Context(new_request_id(), deadline=Deadline.after(SECONDS, SYSTEM_CLOCK))


def is_there_still(host: Compute, ctx: Context, token: ConsoleToken) -> bool:
    """Whether the console is where it was when the token was made: a port may be another guest's by now.

    Raises one of GONE, and Unavailable when the host does not answer.
    """
    if token.place.address.startswith("/"):
        return True  # a socket has its guest's name
    try:
        now = host.get_console(ctx, token.instance_uuid, token.kind)
    except NoConsumer:
        raise Unavailable(reason=f"Host of instance {token.instance_uuid} does not answer.") from None
    then = token.place
    return (now.address, now.port, now.tls_port) == (then.address, then.port, then.tls_port)


@dataclass(frozen=True, slots=True)
class CellConsoles:
    """`connect`: to the cell's database. `transport`: the cell's queue; None where the files name none, and no
    host confirms that a console is there still."""

    connect: Callable[[], AbstractContextManager[Connection]]
    transport: Transport | None
    clock: Clock

    def opened_by(self, secret: str) -> ConsoleToken | None:
        """The console that the token opens; None: the token opens none. Raises Unavailable."""
        with self.connect() as tx:
            token = console_tokens.find(tx, secret, self.clock.now())
        if token is None or self.transport is None:
            return token
        try:
            there = is_there_still(client(Compute, self.transport, token.host), proxy_context(), token)
        except GONE:
            return None
        return token if there else None

    def ended(self, opened: Collection[ConsoleToken]) -> Collection[ConsoleToken]:
        """Those of the open consoles that are to be closed. Raises Unavailable."""
        with self.connect() as tx:
            return console_tokens.ended(tx, opened)
