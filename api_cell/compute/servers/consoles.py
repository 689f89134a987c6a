"""Remote consoles of servers, and what their tokens open."""

from __future__ import annotations

from api_cell.edge.route import Handler, Request, Response, Route, Schema, Version
from api_cell.edge.shapes import by_version, strict, wrapped
from api_cell.edge.versioned import Field, View, queries_of, starts, values_at
from api_cell.servers import consoles
from cell_service.errors import ConsoleTypeHidden, ConsoleTypeUnavailable, Invalid
from cell_service.model.console import ConsoleToken

LAST_OF_ACTIONS = (2, 5)
_TYPES = (
    Field("novnc", "vnc"),
    Field("xvpvnc", "vnc"),
    Field("spice-html5", "spice"),
    Field("spice-direct", "spice", since=(2, 99)),
    Field("serial", "serial"),
    Field("rdp-html5", "rdp"),
    Field("webmks", "mks", since=(2, 8)),
)
"""The types of consoles, each with its protocol."""
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
    if values_at(_TYPES, req.version)[kind] != protocol:
        raise Invalid(reason=f"Invalid console type {kind}")
    url = consoles.open_console(req.cloud, req.services, req.caller, req.params["server_id"], kind)
    return Response(200, {"remote_console": {"protocol": protocol, "type": kind, "url": url}})


def show_token(req: Request) -> Response:
    """200 {"console": …}: where the console is that the token opens."""
    return Response(200, {"console": _TOKEN.at(req.version, consoles.of_token(req.cloud, req.ctx, req.params["id"]))})


def hide_token(req: Request) -> Response:
    """401, up to 2.30: only consoles of a type that is no more were looked up."""
    consoles.of_token(req.cloud, req.ctx, req.params["id"])
    raise ConsoleTypeHidden()


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
    types = values_at(_TYPES, version)
    protocol = {"type": "string", "enum": list(dict.fromkeys(types.values()))}
    kind = {"type": "string", "enum": list(types)}
    return wrapped("remote_console", strict({"protocol": protocol, "type": kind}, "protocol", "type"))


_TOKEN: View[ConsoleToken] = View(
    Field("instance_uuid", lambda token: token.instance_uuid),
    Field("host", lambda token: token.place.address),
    Field("port", lambda token: token.place.port),
    Field("internal_access_path", lambda token: token.place.internal_access_path),
    Field("tls_port", lambda token: token.place.tls_port, since=(2, 99)),
)
_TOKEN_QUERY = queries_of(closed=(2, 99))


def _action(name: str) -> Route:
    body = wrapped(name, strict({"type": {"type": "string", "enum": _ACTIONS[name]}}, "type"))
    return Route("POST", "/servers/{id}/action", _opened_by(name), action=name, body=body, max_version=LAST_OF_ACTIONS)


ROUTES = (
    *(_action(name) for name in _ACTIONS if name != "os-getRDPConsole"),
    Route("POST", "/servers/{id}/action", _gone, action="os-getRDPConsole", max_version=LAST_OF_ACTIONS),
    Route("POST", "/servers/{server_id}/remote-consoles", create, min_version=(2, 6),
          body=by_version(_body, *starts(_TYPES))),
    Route("GET", "/os-console-auth-tokens/{id}", hide_token, rule="os_compute_api:os-console-auth-tokens",
          query=_TOKEN_QUERY, max_version=(2, 30)),
    Route("GET", "/os-console-auth-tokens/{id}", show_token, rule="os_compute_api:os-console-auth-tokens",
          query=_TOKEN_QUERY, min_version=(2, 31)),
)  # fmt: skip
