"""/os-volumes_boot, to 2.102: the servers resource once more, under the name by which volumes were once booted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from api_cell.edge.route import Route

LAST = (2, 102)
SERVERS = "/servers"
PATH = "/os-volumes_boot"
_SAME = frozenset({SERVERS, f"{SERVERS}/detail", f"{SERVERS}/{{id}}"})
_ACTIONS = frozenset({
    "confirmResize", "createImage", "os-start", "os-stop", "reboot", "rebuild", "resize", "revertResize",
    "trigger_crash_dump",
})  # fmt: skip


def routes_of(servers: Iterable[Route]) -> tuple[Route, ...]:
    """Those of the routes of servers that are also there under the other name."""
    return tuple(
        replace(route, path=PATH + route.path.removeprefix(SERVERS), max_version=min(LAST, route.max_version))
        for route in servers
        if route.path in _SAME or (route.path == f"{SERVERS}/{{id}}/action" and route.action in _ACTIONS)
    )
