"""Opening consoles of servers: a token of the server's cell, and the address of its proxy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

from api_cell import cell_queries
from api_cell.caller import Caller
from api_cell.servers import find
from api_cell.services import Services
from cell_service.consoles.cell import GONE, SECONDS, is_there_still, proxy_context
from cell_service.context import SYSTEM_CLOCK, Context, Deadline
from cell_service.db import console_tokens
from cell_service.errors import (
    ConsoleTokenNotFound,
    InstanceNotReady,
    NoConsumer,
    Unavailable,
)
from cell_service.model.console import ConsoleToken
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

RULE = "os_compute_api:os-remote-consoles"


def open_console(cloud: Cloud, services: Services, caller: Caller, server_id: str, kind: str) -> str:
    """The address at which the console can be opened for a while.

    Raises InstanceNotFound, InstanceNotReady, ConsoleTypeUnavailable, NotSupported, PolicyForbidden, Unavailable.
    """
    found = find.server(cloud, caller.ctx, server_id)
    instance, cell = found.instance, found.cell
    caller.demand(RULE, find.target(instance))
    if cell is None or instance.host is None:
        raise InstanceNotReady(instance_uuid=server_id)
    try:
        place = cell.compute(instance.host).get_console(caller.ctx, server_id, kind)
    except NoConsumer:
        raise Unavailable(reason=f"Host of instance {server_id} does not answer.") from None
    secret, now = str(uuid4()), cloud.clock.now()
    until = now + timedelta(seconds=services.settings.consoleauth.token_ttl)
    token = ConsoleToken(server_id, kind, instance.host, place, until)
    cell.db.run(lambda tx: console_tokens.add(tx, secret, token, now), caller.ctx.deadline)
    query = {"path": f"?token={secret}"} if kind == "novnc" else {"token": secret}
    return f"{place.base_url}?{urlencode(query)}"


def of_token(cloud: Cloud, ctx: Context, secret: str) -> ConsoleToken:
    """The console that the token opens. Raises ConsoleTokenNotFound, CellUnavailable."""
    return _opened_by(cloud, ctx, secret)


def opened_by(cloud: Cloud, secret: str) -> ConsoleToken | None:
    """The console that the token opens, for a proxy of all cells; None: the token opens none. Raises CellUnavailable,
    and Unavailable when the host does not answer."""
    ctx = proxy_context()
    try:
        token = _opened_by(cloud, ctx, secret)
        assert token.cell is not None
        host = cloud.cells.open(token.cell).compute(token.host)
        return token if is_there_still(host, ctx, token) else None
    except (ConsoleTokenNotFound, *GONE):
        return None


def ended(cloud: Cloud, opened: Collection[ConsoleToken]) -> list[ConsoleToken]:
    """Those of the open consoles whose server is gone, has moved or is rebuilt, by one query of each of their cells. A
    cell that is down ends none."""
    by_cell: dict[int, list[ConsoleToken]] = {}
    for token in opened:
        if token.cell is not None:
            by_cell.setdefault(token.cell, []).append(token)
    known = {mapping.id for mapping in cloud.cells.all()}
    deadline = Deadline.after(SECONDS, SYSTEM_CLOCK)

    def of_cell(cell: Cell) -> list[ConsoleToken]:
        with cell.db.connect(deadline) as tx:
            return console_tokens.ended(tx, by_cell[cell.mapping.id])

    gathered = cloud.cells.scatter(sorted(by_cell.keys() & known), of_cell, deadline)
    return [token for found in gathered.answers.values() for token in found]


def _opened_by(cloud: Cloud, ctx: Context, secret: str) -> ConsoleToken:
    now = cloud.clock.now()
    answers = cell_queries.query_cells(
        cloud, ctx, lambda tx: [found] if (found := console_tokens.find(tx, secret, now)) else []
    )
    cell_id, token = cell_queries.only_one(cloud, answers, ConsoleTokenNotFound())
    return replace(token, cell=cell_id)
