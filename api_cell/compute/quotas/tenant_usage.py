"""The resources that projects used in a period of time (Compute API reference, "os-simple-tenant-usage")."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from api_cell.compute import behaviours
from api_cell.edge import missing_cells as missing
from api_cell.edge.links import next_link, page_marker, page_size
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import TEXT, WHOLE
from api_cell.edge.versioned import Field, many, queries_of
from api_cell.lists.merge import MOST_ROWS, Merge, RowSource
from api_cell.lists.owned_rows import Copy, owned
from api_cell.lists.rows_in_transit import read_whole
from api_cell.servers.lists.rows import refuse_gaps
from api_cell.timestamps import parse_timestamp, with_fraction
from cell_service.db import usage_rows
from cell_service.db.usage_rows import Ran
from cell_service.errors import Invalid, PolycellError
from mapping_db import instance_mappings
from mapping_db.cells.registry import Cell

PATH = "/os-simple-tenant-usage"
_PERIOD = (Field("start", many(TEXT)), Field("end", many(TEXT)))
_PAGE = (Field("limit", many(WHOLE), since=(2, 40)), Field("marker", many(TEXT), since=(2, 40)))
LIST_QUERY = queries_of(*_PERIOD, Field("detailed", many(TEXT)), *_PAGE, closed=(2, 75))
SHOW_QUERY = queries_of(*_PERIOD, *_PAGE, closed=(2, 75))


def index(req: Request) -> Response:
    """200 {"tenant_usages": […]} of all projects, by project; paged by servers from 2.40 on."""
    start, stop = _period(req)
    most, report = _limit(req), _Report(req, start, stop, detailed=req.query.get("detailed", ["0"])[0] == "1")
    count, last, lacking = _fill(req, report, None, most)
    answer: dict[str, Any] = {"tenant_usages": list(report.projects.values())}
    if last is not None and count == most:
        answer["tenant_usages_links"] = next_link(req, PATH, last)
    return Response(200, answer, lacking)


def show(req: Request) -> Response:
    """200 {"tenant_usage": {…}} of one project with its servers; {} when it had none."""
    project_id = req.params["id"]
    req.demand("os_compute_api:os-simple-tenant-usage:show", {"project_id": project_id})
    start, stop = _period(req)
    most, report = _limit(req), _Report(req, start, stop, detailed=True)
    count, last, lacking = _fill(req, report, project_id, most)
    answer: dict[str, Any] = {"tenant_usage": report.projects.get(project_id, {})}
    if last is not None and count == most:
        answer["tenant_usage_links"] = next_link(req, f"{PATH}/{project_id}", last)
    return Response(200, answer, lacking)


def hours_of(
    launched_at: datetime | None, terminated_at: datetime | None, start: datetime, stop: datetime
) -> float:  # fmt: skip
    """How many hours of the period an instance ran; it may have begun before, and may end later or never."""
    if launched_at is None:
        return 0.0
    begun = max(launched_at, start)
    ended = stop if terminated_at is None else min(terminated_at, stop)
    return max((ended - begun).total_seconds(), 0.0) / 3600


class _Report:
    """Adds servers up by project."""

    def __init__(self, req: Request, start: datetime, stop: datetime, *, detailed: bool) -> None:
        self.start, self.stop = start, stop
        self.projects: dict[str, dict[str, Any]] = {}
        self._now, self._detailed = req.cloud.clock.now(), detailed

    def add(self, ran: Ran) -> None:
        hours = hours_of(ran.launched_at, ran.terminated_at, self.start, self.stop)
        flavor = ran.flavor
        disk = flavor.root_gib + flavor.ephemeral_gib
        project = self.projects.get(ran.project_id) or self._begun(ran.project_id)
        project["total_hours"] += hours
        project["total_vcpus_usage"] += flavor.vcpus * hours
        project["total_memory_mb_usage"] += flavor.memory_mib * hours
        project["total_local_gb_usage"] += disk * hours
        if not self._detailed:
            return
        ended = ran.terminated_at
        project["server_usages"].append(
            {
                "instance_id": ran.uuid,
                "name": ran.display_name,
                "hours": hours,
                "flavor": flavor.name,
                "tenant_id": ran.project_id,
                "vcpus": flavor.vcpus,
                "memory_mb": flavor.memory_mib,
                "local_gb": disk,
                "started_at": with_fraction(ran.launched_at),
                "ended_at": with_fraction(ended),
                "state": "terminated" if ended is not None else ran.vm_state,
                "uptime": max(int(((ended or self._now) - ran.launched_at).total_seconds()), 0),
            }
        )

    def _begun(self, project_id: str) -> dict[str, Any]:
        project: dict[str, Any] = {
            "tenant_id": project_id,
            "start": with_fraction(self.start),
            "stop": with_fraction(self.stop),
            **dict.fromkeys(("total_hours", "total_vcpus_usage", "total_memory_mb_usage", "total_local_gb_usage"), 0.0),
        }
        if self._detailed:
            project["server_usages"] = []
        self.projects[project_id] = project
        return project


def _fill(
    req: Request, report: _Report, project_id: str | None, most: int | None
) -> tuple[int, str | None, dict[str, str]]:  # fmt: skip
    """Add up the servers of the page. Answers how many there are, the last one, and the header of what is missing."""
    if most == 0:
        return 0, None, {}
    count, last, failures = read_whole(req.cloud, lambda: _added(req, report, project_id, most))
    refuse_gaps(req.cloud, req.services.settings, failures)
    return count, last, missing.header(req, failures.keys())


def _added(
    req: Request, report: _Report, project_id: str | None, most: int | None
) -> tuple[tuple[int, str | None, dict[int, PolycellError]], Merge[Copy[Ran]]]:  # fmt: skip
    merge = Merge(
        req.cloud.cells, req.ctx.deadline, _concerned(req, project_id), _kind(req, report, project_id),
        want=most or MOST_ROWS,
    )  # fmt: skip
    report.projects.clear()
    count, last = 0, None
    for ran in _page(req, merge, most):
        report.add(ran)
        count, last = count + 1, ran.uuid
    return (count, last, merge.failures), merge


def _page(req: Request, merge: Merge[Copy[Ran]], most: int | None) -> Iterator[Ran]:
    return islice(owned(req.cloud, iter(merge), min(most or MOST_ROWS, MOST_ROWS)), most)


def _kind(req: Request, report: _Report, project_id: str | None) -> RowSource[Copy[Ran]]:
    begin = _marker(req, project_id)

    def page(cell: Cell, after: Copy[Ran] | None, limit: int) -> list[Copy[Ran]]:
        place = begin if after is None else (after.row.project_id, after.row.uuid)
        with cell.db.connect(req.ctx.deadline) as tx:
            found = usage_rows.page(
                tx, start=report.start, stop=report.stop, project_id=project_id, after=place, limit=limit
            )
        return [Copy(cell.mapping.id, each.uuid, each.uuid, each.hidden, each) for each in found]

    return RowSource(
        page, lambda copy: (copy.row.project_id, copy.row.uuid), lambda copy: (copy.identity, copy.cell_id)
    )  # fmt: skip


def _marker(req: Request, project_id: str | None) -> tuple[str, str] | None:
    """The marker's place in the order, which its mapping knows. Raises Invalid."""
    marker = page_marker(req)
    if marker is None or not behaviours.USAGE_IN_PAGES.at(req.version):
        return None
    with req.cloud.db.connect() as tx:
        mapping = instance_mappings.get_many(tx, [marker]).get(marker)
    if mapping is None or project_id not in (None, mapping.project_id):
        raise Invalid(reason=f"marker [{marker}] not found")
    return mapping.project_id, marker


def _concerned(req: Request, project_id: str | None) -> list[int]:
    if project_id is None:
        return [mapping.id for mapping in req.cloud.cells.all()]
    with req.cloud.db.connect() as tx:
        return instance_mappings.cells_of_project(tx, project_id)


def _limit(req: Request) -> int | None:
    """The limit of a page; None before there was paging: the answer was whole."""
    paged = behaviours.USAGE_IN_PAGES.at(req.version)
    return page_size(req, req.services.settings.api.max_limit) if paged else None


def _period(req: Request) -> tuple[datetime, datetime]:
    """Begin and end of the period; now where the query does not name them. Raises Invalid."""
    now = req.cloud.clock.now()
    start, stop = _moment(req, "start", now), _moment(req, "end", now)
    if start > stop or (start == stop and start != now):
        raise Invalid(reason="Invalid start time. The start time cannot occur after the end time.")
    return start, stop


def _moment(req: Request, name: str, now: datetime) -> datetime:
    text = req.query.get(name, [""])[0]
    if not text:
        return now
    try:
        return parse_timestamp(text)
    except ValueError:
        raise Invalid(reason=f"Datetime is in invalid format: {text[:64]}") from None
