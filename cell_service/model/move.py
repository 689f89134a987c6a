"""A move of an instance to another host, as the super-conductors that run it store it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cell_service.model.instance import Flavor
from cell_service.wire import stored_as


class MoveKind(StrEnum):
    """The kind of a requested move. The values are the migration types of the Compute API, where it has one."""

    COLD = "migration"
    RESIZE = "resize"
    LIVE = "live-migration"
    EVACUATE = "evacuation"
    UNSHELVE = "unshelve"


class MovePhase(StrEnum):
    """GOING: towards the destination. WAITING: at the destination, to be confirmed or reverted, and *parked* while no
    super-conductor has claimed it. CONFIRMING, REVERTING: as was requested. UNDOING: something failed before the
    commit. TIDYING: the instance is free again, and its remains on one side are still to be removed. LEAVING: the
    destination could not take it, and a move that continues this one tries another. DONE, UNDONE: nothing is left
    to do."""

    GOING = "going"
    WAITING = "waiting"
    CONFIRMING = "confirming"
    REVERTING = "reverting"
    UNDOING = "undoing"
    LEAVING = "leaving"
    TIDYING = "tidying"
    DONE = "done"
    UNDONE = "undone"


class Owner(StrEnum):
    """Which side has the instance in the end. NONE: it was deleted. UNKNOWN: not decided yet."""

    UNKNOWN = ""
    SOURCE = "source"
    TARGET = "target"
    NONE = "nowhere"


@dataclass(frozen=True, slots=True)
class AwaitedTask:
    """An operation that a move waits for, in the cell `cell_id`."""

    cell_id: int
    operation_id: int


@dataclass(frozen=True, slots=True)
class MovePlan:
    """The plan of a move: the request, the choices and findings, and the steps that are done.

    `done`: the stored names of the steps that are done, in order. `awaited`: what the step under way waits for.
    `migrate_data`: what the source host gave for the destination. `fault`: why the move is undone.
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
    clear_password: str = field(default="", metadata=stored_as("admin_password"))
    """Where earlier versions stored the password of an evacuation; this one moves it to the sealed secrets."""
    source_node: str | None = None
    node: str | None = None
    host_ip: str | None = None
    """The destination's own address."""
    provider_uuid: str = ""
    availability_zone: str | None = None
    tried: tuple[str, ...] = ()
    was_running: bool = False
    before: str = ""
    """The vm_state that the instance came from."""
    done: tuple[str, ...] = ()
    awaited: AwaitedTask | None = field(default=None, metadata=stored_as("errand"))
    migrate_data: dict[str, Any] = field(default_factory=dict, metadata=stored_as("luggage"))
    fault: str = ""
    code: int = 500
    details: str = ""
    """More about `fault`, for callers who may see hosts."""
    retries: int = 0
    final_owner: Owner = field(default=Owner.UNKNOWN, metadata=stored_as("home"))
    """The side that keeps the instance; its remains on the other side are removed."""
    event_action: str = ""
    """The name of the action in the instance's history that the move is part of now."""
    image: str = ""
    """The image that an unshelved guest is made from; empty once it is needed no more and deleted."""
    pins: bool = False
    pin: str | None = None
    """With `pins`: the availability zone that the instance is bound to from then on."""
    needs: tuple[str, ...] = ()
    """Abilities of the destination (values of `Ability`)."""
    cancelled: bool = False
    """A user has aborted the move."""
    auto_disk_config: bool | None = None
    """The value that the request sets; None: the present one stays."""
    cross_cell: bool = False
    """Whether another cell may be chosen when its own has no capacity left."""
