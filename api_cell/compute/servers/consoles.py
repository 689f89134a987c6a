"""Remote consoles of servers, and what their tokens open."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Handler, Request, Response, Route, Schema, Version
from api_cell.edge.shapes import by_version, query, strict, wrapped
from api_cell.servers import consoles
from cell_service.errors import ConsoleTypeHidden, ConsoleTypeUnavailable, Invalid

LAST_OF_ACTIONS = (2, 5)
_PROTOCOLS = {"novnc": "vnc", "xvpvnc": "vnc", "spice-html5": "spice", "spice-direct": "spice", "serial": "serial",
              "rdp-html5": "rdp", "webmks": "mks"}  # fmt: skip
_SINCE = {"mks": (2, 8), "webmks": (2, 8), "spice-direct": (2, 99)}
_ACTIONS = {
    "os-getVNCConsole": ["novnc", "xvpvnc"],
    "os-getSPICEConsole": ["spice-html5"],
    "os-getSerialConsole": ["serial"],
    "os-getRDPConsole": ["rdp-html5"],
}


def create(req: Request) -> Response:
    """200 {"remote_console": {protocol, type, url}}."""
    body = req.body["remote_console"]
    protocol, kind = body["protocol"], body["type"]
    if _PROTOCOLS[kind] != protocol:
        raise Invalid(reason=f"Invalid console type {kind}")
    url = consoles.open_console(req.cloud, req.services, req.caller, req.params["server_id"], kind)
    return Response(200, {"remote_console": {"protocol": protocol, "type": kind, "url": url}})


def show_token(req: Request) -> Response:
    """200 {"console": …}: where the console is that the token opens. Before 2.31 only for a type that is no more."""
    token = consoles.of_token(req.cloud, req.ctx, req.params["id"])
    if not req.at_least(2, 31):
        raise ConsoleTypeHidden()
    place = token.place
    view: dict[str, Any] = {
        "instance_uuid": token.instance_uuid,
        "host": place.address,
        "port": place.port,
        "internal_access_path": place.internal_access_path,
    }
    return Response(200, {"console": view | ({"tls_port": place.tls_port} if req.at_least(2, 99) else {})})


def _opened_by(action: str) -> Handler:
    def handle(req: Request) -> Response:
        """200 {"console": {type, url}}."""
        kind = req.body[action]["type"]
        return Response(
            200,
            {
                "console": {
                    "type": kind,
                    "url": consoles.open_console(req.cloud, req.services, req.caller, req.params["id"], kind),
                }
            },
        )

    return handle


def _gone(req: Request) -> Response:
    """400: no hypervisor has such consoles any more."""
    raise ConsoleTypeUnavailable(console_type="rdp-html5")


def _body(version: Version) -> Schema:
    def known(names: list[str]) -> Schema:
        return {"type": "string", "enum": [name for name in names if version >= _SINCE.get(name, (2, 1))]}

    protocol, kind = known(["vnc", "spice", "serial", "rdp", "mks"]), known(list(_PROTOCOLS))
    return wrapped("remote_console", strict({"protocol": protocol, "type": kind}, "protocol", "type"))


def _action(name: str) -> Route:
    body = wrapped(name, strict({"type": {"type": "string", "enum": _ACTIONS[name]}}, "type"))
    return Route("POST", "/servers/{id}/action", _opened_by(name), action=name, body=body, max_version=LAST_OF_ACTIONS)


ROUTES = (
    *(_action(name) for name in _ACTIONS if name != "os-getRDPConsole"),
    Route("POST", "/servers/{id}/action", _gone, action="os-getRDPConsole", max_version=LAST_OF_ACTIONS),
    Route("POST", "/servers/{server_id}/remote-consoles", create, min_version=(2, 6),
          body=by_version(_body, (2, 6), (2, 8), (2, 99))),
    Route("GET", "/os-console-auth-tokens/{id}", show_token, rule="os_compute_api:os-console-auth-tokens",
          query=(((2, 1), query({}, closed=False)), ((2, 99), query({}, closed=True)))),
)  # fmt: skip
