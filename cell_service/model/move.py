"""A move of an instance to another host, as those who run it remember it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cell_service.model.instance import Flavor


class MoveKind(StrEnum):
    """What is asked for. The values are the migration types of the Compute API, where it has one."""

    COLD = "migration"
    RESIZE = "resize"
    LIVE = "live-migration"
    EVACUATE = "evacuation"
    UNSHELVE = "unshelve"


class MovePhase(StrEnum):
    """GOING: towards the destination. WAITING: at the destination, to be confirmed or reverted. CONFIRMING, REVERTING:
    as was asked. UNDOING: something failed before the commit. TIDYING: the instance is free again, and something of it
    is still to be removed where nobody answers. LEAVING: the destination could not take it, and a move that goes on
    from this one tries another. DONE, UNDONE: nothing is left to do."""

    GOING = "going"
    WAITING = "waiting"
    CONFIRMING = "confirming"
    REVERTING = "reverting"
    UNDOING = "undoing"
    LEAVING = "leaving"
    TIDYING = "tidying"
    DONE = "done"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Errand:
    """An operation that a move waits for, in the cell `cell_id`."""

    cell_id: int
    operation_id: int


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What a move was asked to do, what it has chosen and found out, and how far it is.

    `done`: names of the steps that are done, in order. `errand`: the operation that the step under way waits for.
    `luggage`: what the source host gave for the destination. `fault`: why the move is undone.
    """

    new_flavor: Flavor | None = None
    old_flavor: Flavor | None = None
    old_flavor_id: int | None = None
    new_flavor_id: int | None = None
    target_host: str | None = None
    target_node: str | None = None
    force: bool = False
    clean_shutdown: bool = True
    on_shared_storage: bool = False
    admin_password: str = ""
    source_node: str | None = None
    node: str | None = None
    provider_uuid: str = ""
    availability_zone: str | None = None
    tried: tuple[str, ...] = ()
    was_running: bool = False
    before: str = ""
    """The vm_state that the instance came from."""
    done: tuple[str, ...] = ()
    errand: Errand | None = None
    luggage: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    code: int = 500
    retries: int = 0
    home: str = ""
    """Where the instance ended up: source, target, or nowhere (it was deleted); what the other side has is removed."""
    event_action: str = ""
    """The name of the action in the instance's history that the move is part of now."""
    image: str = ""
    """What an unshelved guest is made from; empty when that is needed no more, and gone."""
    pins: bool = False
    pin: str | None = None
    """With `pins`: the availability zone that the instance is bound to from then on."""
    cancelled: bool = False
    """Somebody has given the move up."""
    cross_cell: bool = False
    """Whether another cell may be chosen when its own has no room."""
