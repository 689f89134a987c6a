"""Allocation candidates, and usages of projects."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from api_cell.edge.route import Request, Response, Version
from api_cell.edge.versioned import Field, View
from api_cell.placement import behaviours, query
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
        resource_classes.demand(tx, named, query.UNKNOWN_CLASS)
        traits.demand(tx, marks)
        found = candidates.find(tx, requested)
    body = {
        "allocation_requests": [_REQUEST.at(req.version, candidate) for candidate in found.candidates],
        "provider_summaries": {
            summary.provider.uuid: _summary_view(req.version, summary, named)
            for summary in found.summaries
            if behaviours.SUMMARIES_SHOW_TREES.at(req.version) or summary.serves
        },
    }
    return dated(req, body)


def _by_list(candidate: Candidate) -> list[dict[str, Any]]:
    return [
        {"resource_provider": {"uuid": uuid}, "resources": amounts} for uuid, amounts in candidate.allocations.items()
    ]


def _by_provider(candidate: Candidate) -> dict[str, Any]:
    return {uuid: {"resources": amounts} for uuid, amounts in candidate.allocations.items()}


_REQUEST: View[Candidate] = View(
    Field("allocations", _by_list, until=(1, 11)),
    Field("allocations", _by_provider, since=(1, 12)),
    Field("mappings", attrgetter("mappings"), since=(1, 34)),
)
_SUMMARY: View[Summary] = View(
    Field("traits", lambda summary: sorted(summary.traits), since=(1, 17)),
    Field("parent_provider_uuid", attrgetter("provider.parent_uuid"), since=(1, 29)),
    Field("root_provider_uuid", attrgetter("provider.root_uuid"), since=(1, 29)),
)


def _summary_view(version: Version, summary: Summary, named: set[str]) -> dict[str, Any]:
    every = behaviours.SUMMARIES_SHOW_ALL_CLASSES.at(version)
    resources = {
        name: {"capacity": inventory.capacity, "used": inventory.used}
        for name, inventory in sorted(summary.resources.items())
        if every or name in named
    }
    return {"resources": resources, **_SUMMARY.at(version, summary)}


RULE_OF_USAGES = "placement:usages"
_USAGES: query.Parameters = (
    Field("project_id", query.ONCE),
    Field("user_id", query.ONCE),
    Field("consumer_type", query.ONCE, since=(1, 38)),
)


def show_usages(req: Request) -> Response:
    """200 {"usages": {...}} of a project, and a user."""
    return dated(req, {"usages": _sum(_usages(req), count=False)})


def show_usages_by_type(req: Request) -> Response:
    """200 {"usages": {type: {...}}} of a project, and a user, with counts of consumers; `all` is the sum of types."""
    by_type, kind = _usages(req), req.one("consumer_type")
    if kind == "all":
        return dated(req, {"usages": {"all": _sum(by_type, count=True)} if by_type else {}})
    if kind is not None:
        by_type = {name: counts for name, counts in by_type.items() if name == kind}
    return dated(req, {"usages": by_type})


def _usages(req: Request) -> dict[str, dict[str, int]]:
    query.only(req, _USAGES)
    project_id = req.one("project_id")
    if project_id is None:
        raise MissingQuery(reason="'project_id' is a required property")
    for name in ("project_id", "user_id"):
        query.demand_length(name, req.one(name))
    req.demand(RULE_OF_USAGES, {"project_id": project_id})
    with req.cloud.db.connect() as tx:
        found = usages.of_project(tx, project_id, req.one("user_id"))
    return {name or "unknown": counts for name, counts in found.items()}


def _sum(by_type: dict[str, dict[str, int]], *, count: bool) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in by_type.values():
        for name, amount in counts.items():
            if count or name != "consumer_count":
                total[name] = total.get(name, 0) + amount
    return total
