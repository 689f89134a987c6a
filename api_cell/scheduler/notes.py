"""The record of a choice, in a few plain values: why a server is on its host."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from api_cell.scheduler.admission import Admitted
from api_cell.scheduler.hosts import HostState
from api_cell.scheduler.ranking import Ranking, Refusal
from api_cell.scheduler.request_view import RequestView
from cell_service.model.request_spec import RequestSpec
from mapping_db.cells.topology import Snapshot

RUNNERS_UP = 4
REASONS = 20


def chosen_note(
    request_id: str, now: datetime, snapshot: Snapshot, request: RequestView, ranking: Ranking, admitted: Admitted,
    among: Collection[int], chosen: HostState, others: Sequence[HostState],
    allocations: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:  # fmt: skip
    """The note of a choice, made before it counts as use. `among`: the cells that the host was picked from; `others`:
    the alternates. `allocations` are noted where other providers than the host's own serve it."""
    elsewhere = ranking.elsewhere(chosen.cell_id, admitted.refused, RUNNERS_UP)
    runners = [*others[: RUNNERS_UP - min(len(elsewhere), RUNNERS_UP // 2)], *elsewhere][:RUNNERS_UP]
    able = ranking.able()
    return {
        **_requested(request_id, now, request),
        "chosen": _host(snapshot, ranking, chosen),
        **({} if allocations.keys() <= {chosen.key} else {"allocations": allocations}),
        "runners_up": [_host(snapshot, ranking, state) for state in runners],
        "excluded": _tallied(ranking),
        "cells": _cells(snapshot, admitted, able),
        "drawn": _name(snapshot, chosen.cell_id) if len(among) == 1 and len(able) > 1 else None,
    }


def refused_note(
    request_id: str,
    now: datetime,
    snapshot: Snapshot,
    request: RequestView,
    ranking: Ranking,
    admitted: Admitted,
    reason: str,
) -> dict[str, Any]:
    """The note of a choice without a host: as `chosen_note`, with the reason."""
    return {
        **_requested(request_id, now, request),
        "refused": reason,
        "excluded": _tallied(ranking),
        "cells": _cells(snapshot, admitted, ranking.able()),
    }


def plain_note(request_id: str, now: datetime, spec: RequestSpec, reason: str) -> dict[str, Any]:
    """The note of a choice that was refused before any host was compared, or that other requests won."""
    requested = {"project": spec.project_id, "flavor": spec.flavor.name, "image": spec.image_id or None}
    return {
        "request_id": request_id,
        "at": now.isoformat(timespec="milliseconds"),
        "asked": {name: value for name, value in requested.items() if value},
        "refused": reason,
        "excluded": [],
        "cells": {},
    }


def _requested(request_id: str, now: datetime, request: RequestView) -> dict[str, Any]:
    spec = request.spec
    requested: dict[str, Any] = {
        "project": spec.project_id, "flavor": spec.flavor.name, "resources": dict(request.resources),
        "image": spec.image_id or None, "zone": spec.availability_zone, "traits": sorted(request.required),
        "host": spec.force_host or spec.requested_host, "hints": spec.scheduler_hints or None,
        "group": request.group.policy if request.group is not None else None, "not_on": list(spec.ignore_hosts),
        "groups": {suffix: dict(each.resources) for suffix, each in request.groups.numbered.items()},
    }  # fmt: skip
    return {
        "request_id": request_id,
        "at": now.isoformat(timespec="milliseconds"),
        "asked": {name: value for name, value in requested.items() if value},
    }


def _host(snapshot: Snapshot, ranking: Ranking, state: HostState) -> dict[str, Any]:
    """The note of a host. `weighers`: the score of each whose scores differ between hosts, and the part of the weight
    that comes from it."""
    total, parts = ranking.weight_of(state.key)
    weighers = {name: [score, round(weight, 4)] for name, score, weight in parts}
    cell = _name(snapshot, state.cell_id)
    return {"cell": cell, "host": state.host, "node": state.node, "weight": round(total, 4), "weighers": weighers}


def _tallied(ranking: Ranking) -> list[list[Any]]:
    """The commonest reasons, each [filter's name or "", reason, how many hosts]."""
    found: list[tuple[Refusal, int]] = ranking.tally.most_common(REASONS)
    return [[name, reason, count] for (name, reason), count in found if count > 0]


def _cells(snapshot: Snapshot, admitted: Admitted, able: dict[int, int]) -> dict[str, Any]:
    """Why each cell was refused; else its weight, and how many of its hosts could take the instance."""
    noted: dict[str, Any] = {}
    for mapping in list(snapshot.by_id.values())[: 2 * REASONS]:
        if mapping.is_cell0:
            continue
        reason = admitted.refused.get(mapping.id)
        noted[mapping.shown] = reason or {"weight": mapping.weight, "hosts": able.get(mapping.id, 0)}
    return noted


def _name(snapshot: Snapshot, cell_id: int) -> str:
    mapping = snapshot.by_id.get(cell_id)
    return mapping.shown if mapping is not None else str(cell_id)
