"""Work that a cell has promised to do: the rows behind "nothing accepted is ever lost".

An operation is written in the same transaction as the change of task state that announces it. The worker that
has claimed it has its lease and its fence: a number that grows with each claim, so that a late worker is refused. The
kinds of operations, and how each begins and ends, are declared in `cell_service.operations`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from cell_service.context import Context
from cell_service.model.block_device import BlockDevice
from cell_service.model.instance import Fault, InjectedFile, Instance, NetworkRequest, Vif
from cell_service.model.lifecycle import PowerState
from cell_service.model.share import ShareMapping


class Phase(StrEnum):
    """How far an operation is. OPEN and RUNNING are unfinished; MOVING is a build that left one host and
    has not yet reached the next (the conductor owns it)."""

    OPEN = "open"
    RUNNING = "running"
    MOVING = "moving"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


UNFINISHED = frozenset({Phase.OPEN, Phase.RUNNING, Phase.MOVING})

BUILD_PASSWORD = "build_admin_password"
"""The name of BuildArguments.admin_password among an operation's secrets."""
OUTCOME = "outcome"
"""Where the arguments of an ended operation have its Outcome, in its plain form, if its declaration `reports`."""


@dataclass(frozen=True, slots=True)
class Alternate:
    """A host that may take the build when the chosen one fails; `allocations` is placement's form:
    resource provider uuid → resource class → amount."""

    host: str
    node: str
    provider_uuid: str
    allocations: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class BuildArguments:
    """The arguments of a build beyond the instance itself, all of them known before it was accepted."""

    networks: tuple[NetworkRequest, ...] | None = None
    """None: auto allocation (the project's networks); empty: no network."""
    auto_networks: bool = False
    injected_files: tuple[InjectedFile, ...] = ()
    admin_password: str = field(default="", repr=False)
    """Never in a row of operations; see NewOperation."""
    alternates: tuple[Alternate, ...] = ()
    hosts_tried: tuple[str, ...] = ()
    cell: str = ""
    """Name of the cell that builds it."""


@dataclass(frozen=True, slots=True)
class NewOperation:
    """An operation that is to be recorded. `host` None: for the conductors. `sealed`: its secrets, which are neither in
    `arguments` nor in `build`."""

    ctx: Context
    instance_uuid: str
    kind: str
    host: str | None
    now: datetime
    deadline: datetime
    build: BuildArguments | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    sealed: str | None = None


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """One row of a cell's `operations`. `host` None: the conductor does it itself. `attempt` counts how often it was
    claimed."""

    id: int
    instance_uuid: str
    kind: str
    phase: Phase
    host: str | None
    request_id: str
    user_id: str
    project_id: str
    created_at: datetime
    deadline: datetime
    build: BuildArguments | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ClaimedOperation:
    """An operation that a worker has claimed, with the instance as it was then, and the id of the action that the
    operation is part of: all that a worker needs. `sealed`: its secrets as its database has them; `secrets`: as
    they were opened.
    """

    operation: StoredOperation
    instance: Instance
    action_id: int | None = None
    sealed: str | None = field(default=None, repr=False)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def build(self) -> BuildArguments:
        """The arguments of the guest's build, with their secrets opened."""
        given = self.operation.build or BuildArguments()
        return replace(given, admin_password=self.secrets.get(BUILD_PASSWORD, given.admin_password))

    @property
    def id(self) -> int:
        return self.operation.id

    @property
    def fence(self) -> int:
        return self.operation.fence


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended at a host. `fault` None: it succeeded.

    `retriable`: another host may do better (builds), or this one later (others: they only go forward now).
    `power_state` and `network_info` are the current ones; None leaves what the cell has. `host_clean`: nothing of the
    instance is left on the host. `result` is the declared result in its plain form.
    """

    operation_id: int
    fence: int
    fault: Fault | None = None
    retriable: bool = False
    host_clean: bool = True
    power_state: PowerState | None = None
    network_info: tuple[Vif, ...] | None = None
    root_device_name: str | None = None
    devices: tuple[BlockDevice, ...] = ()
    """Block devices as they are now; the others are as they were."""
    devices_gone: tuple[str, ...] = ()
    """Uuids of block devices that the instance has no more."""
    share: ShareMapping | None = None
    """The share that was attached, as it is now."""
    machine_type: str | None = None
    """The machine type that the guest was made with; None: not known."""
    result: dict[str, Any] = field(default_factory=dict)
