"""The messages of a cell's conductors, on its queue, topic `conductor`."""

from __future__ import annotations

from dataclasses import dataclass, field

from cell_service.context import Context
from cell_service.model.events import ServerEvent
from cell_service.model.host import NodeReport
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import PowerState
from cell_service.model.operation import ClaimedOperation, Outcome
from cell_service.rpc.contract import Contract, call, cast
from cell_service.wire import stored_as


@dataclass(frozen=True, slots=True)
class HostRegistration:
    """An agent's introduction of its host, sent at start and after every reconnection."""

    host: str
    version: int
    nodes: tuple[NodeReport, ...]


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The cell's record of a host: its service's uuid, and whether it has been forced down or disabled."""

    service_uuid: str
    disabled: bool
    forced_down: bool


@dataclass(frozen=True, slots=True)
class GuestReport:
    """The state of one guest, as its hypervisor reports it now."""

    instance_uuid: str
    power_state: PowerState


@dataclass(frozen=True, slots=True)
class GuestDecision:
    """The decision over a guest that a host reported: `keep` it, `destroy` it (it is not the cell's), or `quarantine`
    it: turn it off at once and never start it, for it is being evacuated."""

    instance_uuid: str
    decision: str = field(metadata=stored_as("verdict"))


class Conductor(Contract):
    """The conductors of one cell: the only writers of what hosts report. Any of them may answer."""

    topic = "conductor"

    @call(seconds=30, idempotent=True)
    def register_host(self, ctx: Context, registration: HostRegistration) -> HostStatus:
        """Create or refresh the host's service and compute nodes; the host is up from now on."""
        raise NotImplementedError

    @call(seconds=15, idempotent=True)
    def heartbeat(self, ctx: Context, host: str, nodes: tuple[NodeReport, ...]) -> int:
        """Record that the host is alive; `nodes` may be empty when nothing changed. Answers how many operations wait
        for it."""
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def claim_operations(
        self,
        ctx: Context,
        host: str,
        limit: int,
        owner: str,
        builds: int | None = None,
        holding: tuple[int, ...] = (),
    ) -> tuple[ClaimedOperation, ...]:
        """Claim up to `limit` operations open for the host, or whose lease has run out.

        Each comes with a fence and a lease for `owner`; of one instance only its oldest unfinished operation is
        claimed, and none that another worker has. An owner that calls again also gets what it has claimed before,
        except what it names in `holding`. Secrets come opened. At most `builds` of them are builds (None: any number).
        """
        raise NotImplementedError

    @call(seconds=15, idempotent=True)
    def renew_leases(self, ctx: Context, host: str, held: dict[str, int]) -> tuple[int, ...]:
        """Renew leases: operation id (as text) → fence. Answers the ids that are no longer the caller's."""
        raise NotImplementedError

    @cast
    def wake(self, ctx: Context) -> None:
        """Claim an operation without a host now rather than at the next poll."""
        raise NotImplementedError

    @cast
    def operation_progress(self, ctx: Context, operation_id: int, fence: int, task_state: str) -> None:
        """Record that a running build has come to another task state (networking, spawning)."""
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def operation_done(self, ctx: Context, outcome: Outcome) -> None:
        """Record how an operation ended: state, event, fault and end in one transaction.

        Reported twice, it is recorded once. Raises OperationLost when the fence is old: the host must undo what it did
        for a build, and do nothing more for anything else.
        """
        raise NotImplementedError

    @call(seconds=30, idempotent=True)
    def reconcile(self, ctx: Context, host: str, guests: tuple[GuestReport, ...]) -> tuple[GuestDecision, ...]:
        """Compare all guests of a host with what the cell believes. Power states are stored where no task runs (a guest
        that stopped by itself becomes STOPPED); guests that the cell knows to be deleted or to live elsewhere are to be
        destroyed, unless a move under way concerns the host; guests that are being evacuated are to be quarantined;
        guests that the cell never knew are kept and logged."""
        raise NotImplementedError

    @cast
    def external_events(self, ctx: Context, events: tuple[ServerEvent, ...]) -> None:
        """Handle events of this cell's instances that other services report. An event that is reported twice is handled
        once."""
        raise NotImplementedError

    @cast
    def power_event(self, ctx: Context, host: str, instance_uuid: str, power_state: PowerState) -> None:
        """Record that a guest changed its power state by itself."""
        raise NotImplementedError

    @call(seconds=15, idempotent=True)
    def known_deleted(self, ctx: Context, instance_uuids: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the instances that this cell knows to be deleted. Unknown ones are not among them."""
        raise NotImplementedError

    @call(seconds=15, idempotent=True)
    def instances_on_host(self, ctx: Context, host: str) -> tuple[Instance, ...]:
        """The instances that the cell believes to be on the host, without deleted ones."""
        raise NotImplementedError
