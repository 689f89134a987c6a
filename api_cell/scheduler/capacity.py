"""How many more servers of one kind hosts would take, one after the other, and what keeps them from taking yet another:
the same checks as for a choice decide, on the host as it would be by then."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from api_cell.scheduler import fitting
from api_cell.scheduler.filters.contract import Filter
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView

MOST = 1_000
"""Servers that consume nothing of a host are counted up to this."""


@dataclass(frozen=True, slots=True)
class Room:
    """The servers that a host would take. `end`: why not one more, in words that follow "the host"; `resource_class`:
    the class that is used up then, if it is that."""

    host: HostState
    servers: int
    end: str
    resource_class: str | None = None


def room_of(host: HostState, request: RequestView, checks: Sequence[tuple[str, Filter]]) -> Room:
    """`checks`: as for a choice; none that has failed holds again with more servers on the host."""

    def refusal(placed: int) -> str | None:
        state = host if not placed else _with(host, request, placed)
        return next((reason for _, check in checks if (reason := check.reject(state, request)) is not None), None)

    first = refusal(0)
    if first is not None:
        return Room(host, 0, first)
    if fitting.needs_tree(host, request):
        return _room_in_tree(host, request, checks)
    most = min((_left(host, name) // amount for name, amount in request.resources.items()), default=MOST)
    servers = 1 + bisect_left(range(1, most), True, key=lambda placed: refusal(placed) is not None)
    end = refusal(servers) or "takes more than can be counted"
    used_up = [name for name, amount in sorted(request.resources.items()) if _left(host, name) // amount == servers]
    return Room(host, servers, end, used_up[0] if servers == most and used_up else None)


def _room_in_tree(host: HostState, request: RequestView, checks: Sequence[tuple[str, Filter]]) -> Room:
    """Which provider gives what depends on the servers before: they are placed one after the other."""
    state = host
    for placed in range(MOST):
        end = next((reason for _, check in checks if (reason := check.reject(state, request)) is not None), None)
        if end is not None:
            return Room(host, placed, end)
        state = fitting.taken(state, fitting.allocations_of(state, request))
    return Room(host, MOST, "takes more than can be counted")


def _left(host: HostState, resource_class: str) -> int:
    headroom = host.headroom(resource_class)
    return headroom.capacity - headroom.used


def _with(host: HostState, request: RequestView, placed: int) -> HostState:
    """The host with so many more of the servers."""
    headrooms = {
        name: replace(headroom, used=headroom.used + placed * request.resources.get(name, 0))
        for name, headroom in host.headrooms.items()
    }
    return replace(host, headrooms=headrooms, num_instances=host.num_instances + placed)
