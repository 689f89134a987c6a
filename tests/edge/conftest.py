"""A small API of its own, so that the edge is tested apart from any resource."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from api_cell.compute import versions
from api_cell.config import ApiSection, ApiSettings
from api_cell.edge.api import Api
from api_cell.edge.auth import Authenticator, NoAuth
from api_cell.edge.edge import Edge
from api_cell.edge.faults import compute_fault
from api_cell.edge.policy import Policy
from api_cell.edge.policy_rules import Rule
from api_cell.edge.route import Request, Response, Route
from api_cell.edge.server import ApiServer
from cell_service.db.sql.engine import Database
from cell_service.errors import CellUnavailable, DatabaseUnavailable, FlavorNotFound
from cell_service.http.connections import ConnectionSettings
from cell_service.rpc.memory import Bus, MemoryTransport
from mapping_db.cells.registry import Cells
from mapping_db.cloud import Cloud
from tests.edge.client import Client
from tests.suites.clouds import cloud_in_memory

THING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "thing": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "format": "name", "minLength": 1, "maxLength": 8},
                "size": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": 10},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "required": ["thing"],
    "additionalProperties": False,
}
LIMIT = {"type": "array", "items": {"type": "string", "pattern": "^[0-9]+$"}, "maxItems": 1}
QUERY = {"type": "object", "properties": {"limit": LIMIT}, "additionalProperties": False}
RULES = (
    Rule("context_is_admin", "role:admin", scope=()),
    Rule("things:see", "role:reader and project_id:%(project_id)s"),
    Rule("things:make", "rule:context_is_admin"),
)


@dataclass
class Gates:
    """Handlers that wait here, so that a test decides when they go on."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    open: threading.Event = field(default_factory=threading.Event)


def things(gates: Gates) -> list[Route]:
    def see(req: Request) -> Response:
        links = [req.base_url, req.bookmark_url]
        outer = req.ctx.global_request_id
        return Response(200, {"id": req.params["id"], "links": links, "global": outer, "query": dict(req.query)})

    def make(req: Request) -> Response:
        return Response(202, req.body)

    def fail(req: Request) -> Response:
        raise RuntimeError("the secret of the bug")

    def missing(req: Request) -> Response:
        raise FlavorNotFound(flavor_id="f")

    def silent(req: Request) -> Response:
        raise CellUnavailable(cell="c1")

    def unsynced(req: Request) -> Response:
        raise DatabaseUnavailable(reason="(1146, \"Table 'nova_api.cell_mappings' doesn't exist\")")

    def wait(req: Request) -> Response:
        gates.entered.release()
        gates.open.wait(20)
        return Response(200, {"waited": True})

    return [
        Route("GET", "/things/{id}", see, rule="things:see", query=(((2, 1), None), ((2, 75), QUERY))),
        Route("GET", "/things/new", make, min_version=(2, 10), max_version=(2, 20)),
        Route("POST", "/things", make, rule="things:make", body=(((2, 1), THING),)),
        Route("POST", "/things/{id}/action", make, action="start"),
        Route("POST", "/things/{id}/action", make, action="lock", body=THING, min_version=(2, 73)),
        Route("GET", "/fail", fail),
        Route("GET", "/missing", missing),
        Route("POST", "/missing", missing, bad_reference=(FlavorNotFound,)),
        Route("GET", "/silent", silent),
        Route("GET", "/unsynced", unsynced),
        Route("GET", "/wait", wait),
    ]


@pytest.fixture
def gates() -> Iterator[Gates]:
    made = Gates()
    yield made
    made.open.set()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    db = Database(f"sqlite:///{tmp_path}/global.db")
    cells = Cells(db, lambda url: MemoryTransport(Bus()))
    yield cloud_in_memory(db, cells)
    cells.close()
    db.dispose()


Serve = Callable[..., tuple[ApiServer, Client]]


@pytest.fixture
def serve(cloud: Cloud, gates: Gates) -> Iterator[Serve]:
    """Serve the small API with these settings; everything is stopped at the end."""
    servers: list[ApiServer] = []
    clients: list[Client] = []

    def start(
        settings: ApiSettings | None = None,
        authenticator: Authenticator | None = None,
        connections: ConnectionSettings | None = None,
        **api: Any,
    ) -> tuple[ApiServer, Client]:
        settings = settings or ApiSettings(api=ApiSection(auth_strategy="noauth2"))
        compute = Api(
            name="compute",
            service_type="compute",
            min_version=(2, 1),
            max_version=(2, 96),
            routes=things(gates),
            render_fault=compute_fault,
            prefix="/v2.1",
            legacy_prefix="/v2",
            legacy_header="X-OpenStack-Nova-API-Version",
            project_in_path=True,
            roots=versions.ROOTS,
            fallback=versions.choices,
        )
        policy = Policy(RULES, settings.policy)
        edge = Edge(replace(compute, **api), cloud, None, settings, policy, authenticator or NoAuth())
        server = ApiServer(edge)
        server.start(settings=connections)
        servers.append(server)
        clients.append(Client(server.port))
        return server, clients[-1]

    yield start
    gates.open.set()
    for client in clients:
        client.close()
    for server in servers:
        server.drain(0)


@pytest.fixture
def client(serve: Serve) -> Client:
    return serve()[1]
