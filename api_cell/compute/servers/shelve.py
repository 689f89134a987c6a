"""POST /servers/{id}/action: shelve, shelveOffload, unshelve."""

from __future__ import annotations

from api_cell.compute import behaviours
from api_cell.edge.route import ByVersion, Request, Response
from api_cell.edge.shapes import NAME, strict
from api_cell.servers import shelve as shelving
from api_cell.servers.shelve import Place


def shelve(req: Request) -> Response:
    """202: the server will be an image, and lose its host when the time for that has come."""
    shelving.shelve(req.cloud, req.caller, req.params["id"])
    return Response(202)


def offload(req: Request) -> Response:
    """202: the shelved server will lose its host."""
    shelving.offload(req.cloud, req.caller, req.params["id"])
    return Response(202)


def unshelve(req: Request) -> Response:
    """202: the shelved server will run again; from 2.77 in a zone, from 2.91 on a host that is named."""
    placed = behaviours.UNSHELVING_NAMES_A_PLACE.at(req.version)
    body = (req.body["unshelve"] or {}) if placed else {}
    zone = body.get("availability_zone")
    pins = "availability_zone" in body
    shelving.unshelve(req.cloud, req.services, req.caller, req.params["id"], Place(body.get("host"), zone, pins))
    return Response(202)


UNSHELVE: ByVersion = (
    ((2, 1), strict({"unshelve": {}}, "unshelve")),
    (
        (2, 77),
        strict(
            {"unshelve": {**strict({"availability_zone": NAME}, "availability_zone"), "type": ["object", "null"]}},
            "unshelve",
        ),
    ),
    (
        (2, 91),
        strict(
            {
                "unshelve": {
                    **strict({"availability_zone": {"type": ["string", "null"]}, "host": {"type": "string"}}),
                    "type": ["object", "null"],
                }
            },
            "unshelve",
        ),
    ),
)
