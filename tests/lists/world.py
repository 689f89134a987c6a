"""Servers, spread over cells in any way, and the pages that one database with all of them would give."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, delete

from api_cell.config import ApiSettings
from cell_service.db import instances, schema, server_migrations
from cell_service.model.instance import Flavor, Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.migration import Migration
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import RequestSpec
from mapping_db import build_requests, instance_mappings, request_specs
from mapping_db import schema as top
from mapping_db.build_requests import BuildRequest
from mapping_db.instance_mappings import InstanceMapping
from tests.edge.client import Reply
from tests.edge.compute_api import ComputeApi

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SMALL, LARGE = Flavor("1", "small", 1, 512, 1), Flavor("2", "large", 4, 2048, 10, 5)
VERSION = "2.96"


@dataclass(frozen=True)
class Placed:
    """A server and where its rows are. `owner` None: in no cell yet. `copy`: another cell that has its row too."""

    server: Instance
    owner: str | None
    copy: str | None = None
    owner_hidden: bool = False


class Pages(Protocol):
    """What pages are asked of."""

    def get(self, path: str, *, version: str) -> Reply: ...


class World:
    """A Compute API over cell0 and three cells, filled anew for every example."""

    def __init__(
        self, directory: Path, settings: ApiSettings | None = None, create: Callable[[], str] | None = None
    ) -> None:  # fmt: skip
        self.api = ComputeApi(directory, settings, cells=3, create=create)
        self.pads = self.api.db.url.get_backend_name() == "mysql"
        """Whether the database takes texts that differ in spaces at their end for the same."""
        self.admin = self.api.client
        self.user = self.api.as_user("reader", "p1")

    def fill(self, placed: Iterable[Placed], migrations: Iterable[tuple[str, Migration]] = ()) -> None:
        """Nothing but these is there afterwards. Mappings are made in order of creation, then of uuid."""
        wanted = sorted(placed, key=lambda each: (each.server.created_at, each.server.uuid))
        with self.api.db.begin() as tx:
            tx.execute(delete(top.moves))
            tx.execute(delete(top.build_requests))
            tx.execute(delete(top.request_specs))
            tx.execute(delete(top.instance_mappings))
            instance_mappings.insert_new(tx, [self._mapping(each) for each in wanted])
            requests = [_request(each.server) for each in wanted if each.owner is None]
            build_requests.insert_new(tx, requests)
            request_specs.insert_new(tx, [_spec(each.server) for each in wanted if each.owner], T0)
        rows = list(migrations)
        for name in self.api.cell_ids:

            def work(tx: Connection, name: str = name) -> None:
                for table in (schema.instances, schema.tags, schema.migrations):
                    tx.execute(delete(table))
                for each in wanted:
                    if name in (each.owner, each.copy):
                        hidden = name == each.copy or each.owner_hidden
                        instances.insert_new(tx, replace(each.server, hidden=hidden))
                for cell, migration in rows:
                    if cell == name:
                        server_migrations.store(tx, migration)

            self.api.in_cell(name, work)

    def _mapping(self, each: Placed) -> InstanceMapping:
        server = each.server
        return InstanceMapping(
            server.uuid, server.project_id, server.user_id, server.created_at, server.display_name, 1, 512,
            cell_id=None if each.owner is None else self.api.cell_ids[each.owner],
            gone=server.deleted_at is not None,
        )  # fmt: skip


def server(number: int, **fields: Any) -> Instance:
    """The server's uuid says its number."""
    values: dict[str, Any] = {
        "uuid": str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15) % 2**128)), "project_id": "p1", "user_id": "u1",
        "display_name": f"s{number}", "flavor": SMALL, "created_at": T0, "vm_state": VmState.ACTIVE,
        "task_state": None,
    }  # fmt: skip
    return Instance(**(values | fields))


def waiting(made: Instance) -> Instance:
    """The same server before it is in a cell."""
    return replace(
        made, vm_state=VmState.BUILDING, task_state=Task.SCHEDULING, host=None, node=None, launched_at=None,
        terminated_at=None, deleted_at=None, updated_at=None, locked_by=None,
    )  # fmt: skip


def minutes(count: int) -> datetime:
    return T0 + timedelta(minutes=count)


def pages(client: Pages, path: str, noun: str, limit: int, key: str = "id", version: str = VERSION) -> list[Any]:
    """The keys of the items of all pages, each page whole but the last."""
    found: list[Any] = []
    path = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    for _ in range(100):
        reply = ok(client.get(path, version=version))
        page = [item[key] for item in reply.json[noun]]
        found += page
        if f"{noun}_links" not in reply.json:
            assert len(page) < limit, "a page without a link to the next is the last one"
            return found
        assert len(page) == limit, "a page that has a next one is whole"
        path = reply.json[f"{noun}_links"][0]["href"].split("/v2.1", 1)[1]
    raise AssertionError("the pages never end")


def ok(reply: Reply) -> Reply:
    assert reply.status == 200, reply.raw
    return reply


def ordered(rows: Iterable[Any], sort: Iterable[tuple[str, str]], *, pads: bool = False) -> list[Any]:
    """As one database would: no value before any, each key in its own direction."""
    found = list(rows)
    for name, direction in reversed(list(sort)):
        found.sort(key=partial(_sortable, name, pads), reverse=direction == "desc")
    return found


def _sortable(name: str, pads: bool, row: Any) -> tuple[bool, Any]:
    value = row.flavor.flavorid if name == "instance_type_id" else getattr(row, name)
    value = value.value if hasattr(value, "value") else value
    value = value.rstrip(" ") if pads and isinstance(value, str) else value
    return value is not None, 0 if value is None else value


def _spec(made: Instance) -> RequestSpec:
    return RequestSpec(made.uuid, made.project_id, made.user_id, made.flavor)


def _request(made: Instance) -> BuildRequest:
    return BuildRequest(made.uuid, made.project_id, made.created_at, "req-1", made, BuildArguments())
