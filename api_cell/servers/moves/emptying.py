"""Emptying a host: a move for each of its servers, some at a time, until none is left that can be moved.

Nothing is remembered here: what was requested goes on without the requester, and a further request finds what is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import Connection

from api_cell.contract import SuperConductor
from api_cell.servers.moves import kinds, request
from api_cell.servers.moves.kinds import MoveDeclaration
from cell_service.context import Context, Deadline
from cell_service.db import instances
from cell_service.errors import InstanceNotFound, Invalid, PolycellError, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.move import MovePhase, MovePlan, Owner
from mapping_db import moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
REQUEST_SECONDS = 30.0
CONCURRENT = 10

_OVER = (MovePhase.TIDYING, MovePhase.DONE, MovePhase.UNDONE)


@dataclass(frozen=True, slots=True)
class EmptyingRequest:
    """`live` False: running servers are moved off, too. `evacuate`: the host is dead, its servers are built again.
    `to`: the host that takes them; `cross_cell`: hosts of other cells may, where the own cell has no capacity."""

    evacuate: bool = False
    live: bool = True
    to: str | None = None
    cross_cell: bool = False
    at_once: int = CONCURRENT
    seconds: float = 3600.0


@dataclass(slots=True)
class EmptyingResult:
    """Uuids of the servers that have left; and why the others have not, by uuid."""

    moved: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


class Emptying:
    """One host on its way to having no servers. `report` is called with each that has left or can't."""

    def __init__(
        self,
        cloud: Cloud,
        ctx: Context,
        superconductor: SuperConductor,
        wanted: EmptyingRequest,
        report: Callable[[str, str], None] = lambda uuid, reason: None,
    ) -> None:
        self._cloud, self._ctx, self._superconductor, self._wanted, self._report = (
            cloud, ctx, superconductor, wanted, report,
        )  # fmt: skip

    def run(self, cell: Cell, host: str) -> EmptyingResult:
        """Move all that can be moved. Raises CellUnavailable, DatabaseUnavailable: then call it again."""
        result = EmptyingResult()
        under_way: dict[str, str] = {}
        waiting = servers_on(cell, host, self._context())
        until = self._cloud.clock.now() + timedelta(seconds=self._wanted.seconds)
        while waiting or under_way:
            while waiting and len(under_way) < self._wanted.at_once:
                self._request(cell, waiting.pop(0), under_way, result)
            self._poll(under_way, result)
            if self._cloud.clock.now() > until:
                for uuid in [*under_way, *(each.uuid for each in waiting)]:
                    self._stays(uuid, "not finished in time, going on without being watched", result)
                return result
            if under_way:
                self._cloud.clock.wait(threading.Event(), POLL_SECONDS)
        return result

    def _context(self) -> Context:
        return replace(self._ctx, deadline=Deadline.after(REQUEST_SECONDS, self._cloud.clock))

    def _request(self, cell: Cell, instance: Instance, under_way: dict[str, str], result: EmptyingResult) -> None:
        with self._cloud.db.connect() as tx:
            active = moves.active_of(tx, instance.uuid)
        if active is not None:
            under_way[instance.uuid] = active.uuid
            return
        try:
            kind = self._kind(instance)
            plan = MovePlan(target_host=self._wanted.to, cross_cell=self._wanted.cross_cell)
            under_way[instance.uuid] = request.accept(
                self._cloud, self._context(), self._superconductor, cell, instance, kind, plan
            )
        except InstanceNotFound:
            log.info("server was deleted meanwhile", extra=about(self._ctx, instance=instance.uuid))
        except Unavailable:
            raise
        except PolycellError as error:
            self._stays(instance.uuid, str(error), result)

    def _kind(self, instance: Instance) -> MoveDeclaration:
        """Raises Invalid for a server that can't be moved in its state."""
        if self._wanted.evacuate:
            return kinds.EVACUATION
        for kind in (kinds.LIVE_MIGRATION, kinds.COLD_MIGRATION) if self._wanted.live else (kinds.COLD_MIGRATION,):
            if instance.vm_state in kind.request.rule.start:
                return kind
        raise Invalid(reason=f"a server that is {instance.vm_state.value} can't be moved")

    def _poll(self, under_way: dict[str, str], result: EmptyingResult) -> None:
        """Take note of the moves that are over, and confirm those that wait for it."""
        with self._cloud.db.connect() as tx:
            now = {move.uuid: move for move in moves.get_many(tx, list(under_way.values()))}
            after = {move.uuid for move in moves.get_many(tx, [moves.next_uuid(move) for move in now.values()])}
        for uuid, move_uuid in list(under_way.items()):
            move = now.get(move_uuid)
            if move is not None and move.is_parked:
                self._confirm(uuid, move.uuid)
            elif move is not None and moves.next_uuid(move) in after:
                under_way[uuid] = moves.next_uuid(move)
            elif move is None or move.phase in _OVER:
                del under_way[uuid]
                if move is None or move.plan.final_owner in (Owner.TARGET, Owner.NONE):
                    result.moved.append(uuid)
                    self._report(uuid, "")
                else:
                    self._stays(uuid, move.plan.details or move.plan.fault or "its move was undone", result)

    def _confirm(self, uuid: str, move_uuid: str) -> None:
        def work(tx: Connection) -> bool:
            move = moves.get(tx, move_uuid)
            if move is None:
                return False
            plan = replace(move.plan, event_action=kinds.CONFIRM, awaited=None, fault="", retries=0)
            return moves.steer(
                tx, move_uuid, self._cloud.clock.now(), source=MovePhase.WAITING, target=MovePhase.CONFIRMING,
                plan=plan, request_id=self._ctx.request_id,
            )  # fmt: skip

        if self._cloud.db.run(work):
            request.wake(self._ctx, self._superconductor, move_uuid)

    def _stays(self, uuid: str, reason: str, result: EmptyingResult) -> None:
        result.left[uuid] = reason
        self._report(uuid, reason)


def servers_on(cell: Cell, host: str, ctx: Context) -> list[Instance]:
    """The servers that the cell has on the host."""
    with cell.db.connect(ctx.deadline) as tx:
        return [instance for instance in instances.on_host(tx, host) if not instance.hidden]
