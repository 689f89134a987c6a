"""The tasks of hosts in a move. They leave the instance's state alone: the super-conductor that runs the move reads
the outcomes.

The arguments of each also say for which move it is (`move`), with which fence and key, and as which event it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cell_service.model.block_device import BlockDevice, merged
from cell_service.model.instance import Flavor, Vif
from cell_service.model.operation import Phase
from cell_service.operations.declaration import (
    Changes,
    Ending,
    History,
    HostDeath,
    Lateness,
    NoResult,
    Operation,
    again,
)
from cell_service.operations.effects import ReleaseAttachments
from cell_service.operations.rule import ANY_TASK, NOT_DELETED, Rule
from cell_service.operations.secret import Secret
from cell_service.wire import stored_as

EVENT = "event"
"""The key in the arguments of the event as which the task shows."""

_AT_ANY_TIME = Rule(NOT_DELETED, task=None, during=ANY_TASK, hostless=NOT_DELETED)


@dataclass(frozen=True, slots=True)
class PrepareSourceArguments:
    """The guest is ready to be moved and still here (not `live`: it is off; `shutdown`: after a clean shutdown)."""

    live: bool = False
    shutdown: bool = True
    event: str | None = None
    move: str | None = None
    fence: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class PrepareSourceResult:
    """`migrate_data`: what the destination needs. `was_running`: the guest ran before."""

    migrate_data: dict[str, Any] = field(default_factory=dict, metadata=stored_as("luggage"))
    was_running: bool = False


@dataclass(frozen=True, slots=True)
class PrepareDestinationArguments:
    """The guest is here, and does not run; without `migrate_data` it is made from `image` (None: from the
    instance's own), with its config drive."""

    migrate_data: dict[str, Any] | None = field(default=None, metadata=stored_as("luggage"))
    live: bool = False
    flavor: Flavor | None = None
    admin_password: Secret[str] = field(default="", repr=False)
    image: str | None = None
    cell: str | None = None
    event: str | None = None
    move: str | None = None
    fence: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ActivateArguments:
    """The ports are bound to this host, and the guest runs if `run`. `image` is needed no more."""

    run: bool = False
    live: bool = False
    migrate_data: dict[str, Any] | None = field(default=None, metadata=stored_as("luggage"))
    flavor: Flavor | None = None
    image: str | None = None
    event: str | None = None
    move: str | None = None
    fence: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ActivateResult:
    image_gone: bool = False


@dataclass(frozen=True, slots=True)
class CleanUpArguments:
    """Nothing of the guest is left here; ports and allocations are left alone. With parts only those are corrected: the
    guest, if there is one, has none of the block devices `parts_out` and interfaces `ports_out`, and has those block
    devices of `parts_in` that still are its instance's, in that size."""

    parts_out: tuple[BlockDevice, ...] | None = None
    parts_in: tuple[BlockDevice, ...] | None = None
    ports_out: tuple[Vif, ...] | None = None
    event: str | None = None
    move: str | None = None
    fence: int | None = None
    key: str | None = None

    @property
    def is_partial(self) -> bool:
        return not (self.parts_out is None and self.parts_in is None and self.ports_out is None)


def _done(_ending: Ending[Any, Any]) -> Changes:
    return Changes(history=History.EVENT)


def _failed(ending: Ending[Any, Any]) -> Changes:
    return Changes(Phase.FAILED, fault=ending.fault, history=History.EVENT)


def _cleaned_up(ending: Ending[CleanUpArguments, NoResult]) -> Changes:
    """An instance without a host has the reserved devices of the outcome; a deleted one gets no attachments."""
    devices, instance = ending.outcome.devices, ending.instance
    if not devices:
        return _done(ending)
    if instance.deleted_at is not None:
        return Changes(effects=(ReleaseAttachments(),), history=History.EVENT)
    columns = {"block_devices": merged(instance.block_devices, devices)} if instance.host is None else {}
    return Changes(columns=columns, history=History.EVENT)


PREPARE_SOURCE = Operation(
    name="move_out",
    action="move_out",
    event=None,
    rule=_AT_ANY_TIME,
    arguments=PrepareSourceArguments,
    result=PrepareSourceResult,
    deadline=timedelta(hours=1),
    when_host_dies=HostDeath.FAIL,
    reports=True,
    given_up_by_reset=False,
    succeeded=_done,
    failed=_failed,
)
PREPARE_DESTINATION = Operation(
    name="move_in",
    action="move_in",
    event=None,
    rule=_AT_ANY_TIME,
    arguments=PrepareDestinationArguments,
    result=NoResult,
    deadline=timedelta(hours=1),
    when_host_dies=HostDeath.FAIL,
    reports=True,
    given_up_by_reset=False,
    succeeded=_done,
    failed=_failed,
)
ACTIVATE = Operation(
    name="move_run",
    action="move_run",
    event=None,
    rule=_AT_ANY_TIME,
    arguments=ActivateArguments,
    result=ActivateResult,
    deadline=timedelta(hours=1),
    when_host_dies=HostDeath.FAIL,
    reports=True,
    changes_ports=True,
    given_up_by_reset=False,
    succeeded=_done,
    failed=_failed,
)
CLEAN_UP = Operation(
    name="move_drop",
    action="move_drop",
    event=None,
    rule=_AT_ANY_TIME,
    arguments=CleanUpArguments,
    result=NoResult,
    deadline=None,
    when_late=Lateness.NEVER,
    reports=True,
    removes_leftovers=True,
    given_up_by_reset=False,
    succeeded=_cleaned_up,
    failed=again,
)

ALL: tuple[Operation[Any, Any], ...] = (PREPARE_SOURCE, PREPARE_DESTINATION, ACTIVATE, CLEAN_UP)
