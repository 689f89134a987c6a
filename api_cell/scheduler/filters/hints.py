"""Scheduler hints: near or far from other instances, near an address, or any condition on the host's figures."""

from __future__ import annotations

import ipaddress
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api_cell.scheduler.filters.capabilities import attributes
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.request_view import RequestView


@dataclass(frozen=True, slots=True)
class DifferentHost:
    """Not a host of any instance named in the hint `different_host`."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        return "runs an instance to keep away from" if host.key in request.different_hosts else None


@dataclass(frozen=True, slots=True)
class SameHost:
    """A host of one of the instances named in the hint `same_host`."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        if request.same_hosts is None or host.key in request.same_hosts:
            return None
        return "runs none of the instances to be with"


@dataclass(frozen=True, slots=True)
class SimpleCidrAffinity:
    """The host's address lies in the network of `build_near_host_ip` and `cidr` (/24 unless given)."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        near = request.spec.scheduler_hints.get("build_near_host_ip")
        if not near:
            return None
        cidr = str(request.spec.scheduler_hints.get("cidr", "/24"))
        try:
            network = ipaddress.ip_network(f"{near}{cidr}", strict=False)
            inside = ipaddress.ip_address(host.host_ip) in network
        except ValueError:
            inside = False
        return None if inside else f"is not in the network of {near}{cidr}"


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Json:
    """The expression of the hint `query` is true: `[">=", "$free_ram_mb", 1024]`, with and, or, not, in."""

    def reject(self, host: HostState, request: RequestView) -> str | None:
        query = request.spec.scheduler_hints.get("query")
        if not query:
            return None
        try:
            fulfils = _is_true(json.loads(query) if isinstance(query, str) else query, host)
        except (ValueError, TypeError, IndexError):
            return "is asked a query that can't be read"
        return None if fulfils else "does not fulfil the query"


def _is_true(term: object, host: HostState) -> Any:
    if isinstance(term, str) and term.startswith("$"):
        first, *steps = term[1:].split(".")
        value = attributes(host, first)
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return value
    if not isinstance(term, list):
        return term
    name, *arguments = term
    values = [_is_true(argument, host) for argument in arguments]
    if name == "and":
        return all(values)
    if name == "or":
        return any(values)
    if name == "not":
        return not any(values)
    if name == "in":
        return values[0] in values[1:]
    if name not in _OPERATORS:
        raise ValueError(name)
    return all(value is not None and _OPERATORS[name](values[0], value) for value in values[1:])
