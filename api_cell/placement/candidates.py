"""Allocation candidates, and usages of projects."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import Request, Response
from api_cell.placement import query
from api_cell.placement.answer import dated
from cell_service.errors import MissingQuery
from mapping_db.placement import candidates, resource_classes, traits, usages
from mapping_db.placement.candidates import Candidate, Summary


def index(req: Request) -> Response:
    """200 {"allocation_requests": [...], "provider_summaries": {...}}; both empty when nothing fits."""
    requested = query.candidates(req)
    named = {name for wanted in requested.groups.values() for name in wanted.resources}
    marks = requested.root_required | requested.root_forbidden
    for wanted in requested.groups.values():
        marks = marks.union(wanted.forbidden, *wanted.required)
    with req.cloud.db.connect() as tx:
        resource_classes.demand(tx, named)
        traits.demand(tx, marks)
        found = candidates.find(tx, requested)
    body = {
        "allocation_requests": [_request_view(req, candidate) for candidate in found.candidates],
        "provider_summaries": {
            summary.provider.uuid: _summary_view(req, summary, named) for summary in found.summaries
        },
    }
    return dated(req, body)


def _request_view(req: Request, candidate: Candidate) -> dict[str, Any]:
    if not req.at_least(1, 12):
        return {
            "allocations": [
                {"resource_provider": {"uuid": uuid}, "resources": amounts}
                for uuid, amounts in candidate.allocations.items()
            ]
        }
    view: dict[str, Any] = {
        "allocations": {uuid: {"resources": amounts} for uuid, amounts in candidate.allocations.items()}
    }
    if req.at_least(1, 34):
        view["mappings"] = candidate.mappings
    return view


def _summary_view(req: Request, summary: Summary, named: set[str]) -> dict[str, Any]:
    shown = req.at_least(1, 27)
    view: dict[str, Any] = {
        "resources": {
            name: {"capacity": inventory.capacity, "used": inventory.used}
            for name, inventory in sorted(summary.resources.items())
            if shown or name in named
        }
    }
    if req.at_least(1, 17):
        view["traits"] = sorted(summary.traits)
    if req.at_least(1, 29):
        view["parent_provider_uuid"] = summary.provider.parent_uuid
        view["root_provider_uuid"] = summary.provider.root_uuid
    return view


def show_usages(req: Request) -> Response:
    """200 {"usages": {...}} of a project, and a user; from 1.38 on by consumer type, with counts of consumers."""
    typed = req.at_least(1, 38)
    query.only(req, ("project_id", "user_id", "consumer_type") if typed else ("project_id", "user_id"))
    project_id, kind = req.one("project_id"), req.one("consumer_type")
    if not project_id:
        raise MissingQuery(reason="'project_id' is a required property")
    with req.cloud.db.connect() as tx:
        found = usages.of_project(tx, project_id, req.one("user_id"))
    by_type = {name or "unknown": counts for name, counts in found.items()}
    if not typed:
        return dated(req, {"usages": _sum(by_type, count=False)})
    if kind == "all":
        return dated(req, {"usages": {"all": _sum(by_type, count=True)} if by_type else {}})
    if kind is not None:
        by_type = {name: counts for name, counts in by_type.items() if name == kind}
    return dated(req, {"usages": by_type})


def _sum(by_type: dict[str, dict[str, int]], *, count: bool) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in by_type.values():
        for name, amount in counts.items():
            if count or name != "consumer_count":
                total[name] = total.get(name, 0) + amount
    return total
