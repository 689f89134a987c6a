"""Usage audits of hosts. Our hosts run none, so all of them are listed as not run."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import unquote

from api_cell import cell_queries
from api_cell.edge import missing_cells as missing
from api_cell.edge.route import ByVersion, Request, Response, Route
from api_cell.edge.shapes import query
from cell_service.db import services
from cell_service.errors import Invalid

_RULE = "os_compute_api:os-instance-usage-audit-log:"
_NO_QUERY: ByVersion = (((2, 1), query({}, closed=False)), ((2, 102), query({}, closed=True)))


def index(req: Request) -> Response:
    """200 {"instance_usage_audit_logs": {…}} of the last whole month."""
    return _answer(req, "instance_usage_audit_logs", req.cloud.clock.now())


def show(req: Request) -> Response:
    """200 {"instance_usage_audit_log": {…}} of the last whole month before a moment."""
    text = unquote(req.params["id"])
    try:
        before = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(reason=f"Invalid timestamp for date {text}") from None
    return _answer(req, "instance_usage_audit_log", before)


def _answer(req: Request, name: str, before: datetime) -> Response:
    answers = cell_queries.query_services(req.cloud, req.ctx, lambda tx: services.list_all(tx, binary=services.COMPUTE))
    hosts = sorted({service.host for _, service in answers.found} | set(cell_queries.hosts_of(req.cloud, answers.down)))
    begin, end = _month_before(before)
    log: dict[str, Any] = {
        "hosts_not_run": hosts,
        "log": {},
        "num_hosts": len(hosts),
        "num_hosts_done": 0,
        "num_hosts_not_run": len(hosts),
        "num_hosts_running": 0,
        "overall_status": f"0 of {len(hosts)} hosts done. 0 errors." if hosts else "ALL hosts done. 0 errors.",
        "period_beginning": f"{begin:%Y-%m-%d %H:%M:%S}",
        "period_ending": f"{end:%Y-%m-%d %H:%M:%S}",
        "total_errors": 0,
        "total_instances": 0,
    }
    return Response(200, {name: log}, missing.header(req, answers.down))


def _month_before(moment: datetime) -> tuple[datetime, datetime]:
    end = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if end.year == 1 and end.month == 1:
        raise Invalid(reason="Invalid timestamp: nothing was before it.")
    last = (end.year - 1, 12) if end.month == 1 else (end.year, end.month - 1)
    return end.replace(year=last[0], month=last[1]), end


ROUTES = (
    Route("GET", "/os-instance_usage_audit_log", index, rule=_RULE + "list", query=_NO_QUERY),
    Route("GET", "/os-instance_usage_audit_log/{id}", show, rule=_RULE + "show", query=_NO_QUERY),
)
