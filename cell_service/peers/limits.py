"""Unified limits: how much of this service's resources a project may have, as the identity service keeps it.

Resources have the names under which operators of nova register them: servers, class:VCPU, class:MEMORY_MB,
server_groups, server_group_members, server_key_pairs, server_metadata_items, server_injected_files ….
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cell_service.context import Clock, Context
from cell_service.errors import PeerUnavailable
from cell_service.logs import about
from cell_service.peers.session import Peer, Reply
from cell_service.peers.settings import LimitSettings
from cell_service.ttl_cache import TtlCache

log = logging.getLogger(__name__)

VALID_SECONDS = 10.0
"""How long limits apply before they are fetched again."""
MAX_PROJECTS = 10_000


class UnifiedLimits:
    """Limits of the service that an endpoint belongs to. Thread-safe.

    While the identity service does not answer, the limits that it gave last apply.
    """

    def __init__(self, settings: LimitSettings, clock: Clock) -> None:
        self._settings = settings
        self._peer = Peer("identity", settings, "/v3")
        self._limits: TtlCache[str, Mapping[str, int]] = TtlCache(clock, VALID_SECONDS, MAX_PROJECTS)
        self._service: tuple[str, str | None] | None = None

    def defaults(self, ctx: Context) -> Mapping[str, int]:
        """The registered limits, by resource. Raises PeerUnavailable."""
        return self._cached(ctx, "", self._registered)

    def of_project(self, ctx: Context, project_id: str) -> Mapping[str, int]:
        """The project's own limits, else those registered, by resource; -1 is none. What is in neither is not
        limited by the identity service. Raises PeerUnavailable."""
        own = self._cached(ctx, project_id, lambda asking: self._own(asking, project_id))
        return {**self.defaults(ctx), **own}

    def _cached(self, ctx: Context, key: str, fetch: Callable[[Context], Mapping[str, int]]) -> Mapping[str, int]:
        limits = self._limits.get(key)
        if limits is not None:
            return limits
        try:
            limits = fetch(ctx)
        except PeerUnavailable as error:
            limits = self._limits.get_stale(key)
            if limits is None:
                raise
            log.warning(
                "the identity service did not give the limits; the last ones apply", extra=about(ctx, reason=error)
            )
        self._limits.put(key, limits)
        return limits

    def _registered(self, ctx: Context) -> Mapping[str, int]:
        service_id, region = self._of_endpoint(ctx)
        rows = self._rows(ctx, "registered_limits", service_id=service_id)
        return _by_resource(rows, "default_limit", region)

    def _own(self, ctx: Context, project_id: str) -> Mapping[str, int]:
        service_id, region = self._of_endpoint(ctx)
        rows = self._rows(ctx, "limits", service_id=service_id, project_id=project_id)
        return _by_resource(rows, "resource_limit", region)

    def _of_endpoint(self, ctx: Context) -> tuple[str, str | None]:
        """The service's id and its region, which are looked up once."""
        if self._service is None:
            if self._settings.endpoint_id:
                found = _good(self._peer.ask(ctx, "GET", f"/endpoints/{self._settings.endpoint_id}"))["endpoint"]
                self._service = str(found["service_id"]), found.get("region_id")
            else:
                kind = self._settings.endpoint_service_type
                services = self._rows(ctx, "services", type=kind)
                if not services:
                    raise PeerUnavailable(service="identity", reason=f"it knows no service of the type {kind}")
                self._service = str(services[0]["id"]), self._settings.endpoint_region_name
        return self._service

    def _rows(self, ctx: Context, plural: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _good(self._peer.ask(ctx, "GET", f"/{plural}", query=query))[plural]
        return found


def _by_resource(rows: Iterable[Mapping[str, Any]], amount: str, region: str | None) -> dict[str, int]:
    """The limits by resource; one for the region takes precedence over one for all."""
    here = [row for row in rows if row.get("region_id") in (None, region)]
    ordered = sorted(here, key=lambda row: row.get("region_id") is not None)
    return {str(row["resource_name"]): int(row[amount]) for row in ordered}


def _good(reply: Reply) -> Any:
    if not reply.ok:
        raise PeerUnavailable(service="identity", reason=f"it answered {reply.status}")
    return reply.json
