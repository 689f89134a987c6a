"""The version documents of the Compute API."""

from __future__ import annotations

from typing import Any

from api_cell.compute.history import NEWEST, OLDEST
from api_cell.edge.route import Request, Response, Route

_MEDIA = "application/vnd.openstack.compute+json;version="
_UPDATED = {"v2.0": "2011-01-21T11:33:21Z", "v2.1": "2013-07-23T11:33:21Z"}


def index(req: Request) -> Response:
    """200 {"versions": [...]}: the versions there are, v2.0 first."""
    return Response(200, {"versions": [_entry(req, "v2.0", "v2"), _entry(req, "v2.1", "v2.1")]})


def show_v2(req: Request) -> Response:
    """200 {"version": {...}} of v2.0."""
    return _handshake(req) or Response(200, {"version": _detail(req, "v2.0", "v2")})


def show_v21(req: Request) -> Response:
    """200 {"version": {...}} of v2.1."""
    return _handshake(req) or Response(200, {"version": _detail(req, "v2.1", "v2.1")})


def choices(req: Request) -> Response:
    """300 {"choices": [...]}: where the path would be found under a version."""
    made = []
    for name, part in (("v2.0", "v2"), ("v2.1", "v2.1")):
        made.append(
            {
                "id": name,
                "status": _entry(req, name, part)["status"],
                "links": [{"rel": "self", "href": f"{req.base_url}/{part}{req.path}"}],
                "media-types": [{"base": "application/json", "type": f"{_MEDIA}{name.removeprefix('v')}"}],
            }
        )
    return Response(300, {"choices": made})


def _entry(req: Request, name: str, part: str) -> dict[str, Any]:
    current = name == "v2.1"
    return {
        "id": name,
        "status": "CURRENT" if current else "DEPRECATED",
        "version": "{}.{}".format(*NEWEST) if current else "",
        "min_version": "{}.{}".format(*OLDEST) if current else "",
        "updated": _UPDATED[name],
        "links": [{"rel": "self", "href": f"{req.base_url}/{part}/"}],
    }


def _detail(req: Request, name: str, part: str) -> dict[str, Any]:
    entry = _entry(req, name, part)
    entry["links"].append({"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"})
    entry["media-types"] = [{"base": "application/json", "type": f"{_MEDIA}{name.removeprefix('v')}"}]
    return entry


def _handshake(req: Request) -> Response | None:
    """The token of a caller who names a user with noauth2, as legacy clients expect."""
    user = req.headers.get("X-Auth-User")
    if user is None or req.services.settings.api.auth_strategy != "noauth2":
        return None
    project = req.headers.get("X-Auth-Project-Id") or user
    url = f"{req.base_url}{req.path.removesuffix('/')}/{project}"
    return Response(204, None, {"X-Auth-Token": f"{user}:{project}", "X-Server-Management-Url": url})


ROOTS = (
    Route("GET", "/", index, open=True),
    Route("GET", "/v2", show_v2, open=True),
    Route("GET", "/v2.1", show_v21, open=True),
)
