"""Claiming what was chosen: one global transaction, which fails if a race was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from api_cell.scheduler.request_view import GroupState, RequestView
from api_cell.scheduler.snapshot import Pending
from cell_service.errors import Conflict
from cell_service.model.request_spec import Selection
from mapping_db import placement_notes, server_groups
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations
from mapping_db.placement.allocations import Claim

Record = Callable[[Connection, Selection], bool]
"""Called in the claim's transaction, perhaps more than once. False: not wanted any more; nothing is claimed then."""


class GroupMoved(Conflict):
    """A server group's members went elsewhere while one more was being placed."""

    message = "Server group {uuid} changed meanwhile."


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice that is not yet claimed. `index` is the spec's place in the request."""

    index: int
    request: RequestView
    selection: Selection
    pending: Pending
    note: Mapping[str, Any] | None = None


def claim(cloud: Cloud, picks: Sequence[Pick], record: Record | None, keep: Mapping[str, str]) -> frozenset[int]:
    """Claim the picks that `record` wants, with what it writes, all of them or none. Answers their indices.

    `keep`: by instance the consumer that takes over what it has already. Raises InventoryExceeded,
    ResourceProviderNotFound, GenerationConflict, GroupMoved.
    """
    now = cloud.clock.now()

    def work(tx: Connection) -> list[Pick]:
        kept = [pick for pick in picks if record is None or record(tx, pick.selection)]
        _place_members(tx, kept)
        claims = [_claim_for(pick) for pick in kept]
        allocations.write(tx, [*claims, *_kept_claims(tx, claims, keep)], now)
        noted = {pick.selection.instance_uuid: pick.note for pick in kept if pick.note is not None}
        placement_notes.put(tx, noted, now)
        return kept

    return frozenset(pick.index for pick in cloud.db.run(work))


def _place_members(tx: Connection, picks: Sequence[Pick]) -> None:
    """Write the members' hosts with the groups' rows locked, where the policies allow them. Raises GroupMoved."""
    known = [pick.request.group for pick in picks if pick.request.group is not None]
    departed = {group.uuid: group.departed for group in known}
    groups = server_groups.by_uuids(tx, departed, lock=True)
    placing = {pick.selection.instance_uuid for pick in picks}
    states = {uuid: GroupState.of(group, placing, departed[uuid]) for uuid, group in groups.items()}
    for pick in picks:
        group = groups.get(pick.request.group.uuid) if pick.request.group is not None else None
        if group is None:
            continue
        state = states[group.uuid]
        if state.refuses(pick.selection.host) is not None:
            raise GroupMoved(uuid=group.uuid)
        state.add(pick.selection.host)
        server_groups.place(tx, group, pick.selection.instance_uuid, pick.selection.host)


def _claim_for(pick: Pick) -> Claim:
    spec = pick.request.spec
    return Claim(
        consumer_uuid=spec.instance_uuid,
        allocations=pick.selection.allocations,
        project_id=spec.project_id,
        user_id=spec.user_id,
        consumer_type="INSTANCE",
    )


def _kept_claims(tx: Connection, claims: Sequence[Claim], keep: Mapping[str, str]) -> list[Claim]:
    """The instances' present allocations, for the moves that take them over."""
    moving = [claim for claim in claims if claim.consumer_uuid in keep]
    current = allocations.of_consumers(tx, [claim.consumer_uuid for claim in moving]) if moving else {}
    return [
        replace(claim, consumer_uuid=keep[claim.consumer_uuid], allocations=current[claim.consumer_uuid].allocations,
                consumer_type="MIGRATION")
        for claim in moving
        if claim.consumer_uuid in current
    ]  # fmt: skip
