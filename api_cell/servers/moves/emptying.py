"""Emptying a host: a move for each of its servers, some at a time, until none is left that can be moved.

Nothing is remembered here: what was asked for goes on without the asker, and asking again finds what is left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import Connection

from api_cell.contract import SuperConductor
from api_cell.servers.moves import request as asking
from cell_service.context import Context, Deadline
from cell_service.db import instances
from cell_service.errors import InstanceNotFound, Invalid, PolycellError, Unavailable
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.move import MoveKind, MovePhase, MovePlan
from mapping_db import moves
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
ASK_SECONDS = 30.0
AT_ONCE = 10

_OVER = (MovePhase.TIDYING, MovePhase.DONE, MovePhase.UNDONE)
LIVE_STATES = {VmState.ACTIVE, VmState.PAUSED}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`live` False: running servers are moved off, too. `evacuate`: the host is dead, its servers are built anew.
    `to`: the host that takes them; `cross_cell`: hosts of other cells may, where the own cell has no room."""

    evacuate: bool = False
    live: bool = True
    to: str | None = None
    cross_cell: bool = False
    at_once: int = AT_ONCE
    seconds: float = 3600.0


@dataclass(slots=True)
class Result:
    """Uuids of the servers that have left; and why the others have not, by uuid."""

    moved: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


class Emptying:
    """One host on its way to having no servers. `told` is called with each that has left or can't."""

    def __init__(
        self,
        cloud: Cloud,
        ctx: Context,
        superconductor: SuperConductor,
        wanted: Wanted,
        told: Callable[[str, str], None] = lambda uuid, reason: None,
    ) -> None:
        self._cloud, self._ctx, self._superconductor, self._wanted, self._told = (
            cloud, ctx, superconductor, wanted, told,
        )  # fmt: skip

    def run(self, cell: Cell, host: str) -> Result:
        """Move all that can be moved. Raises CellUnavailable, DatabaseUnavailable: then ask again."""
        result = Result()
        asked: dict[str, str] = {}
        waiting = servers_on(cell, host, self._asking())
        until = self._cloud.clock.now() + timedelta(seconds=self._wanted.seconds)
        while waiting or asked:
            while waiting and len(asked) < self._wanted.at_once:
                self._ask(cell, waiting.pop(0), asked, result)
            self._see(asked, result)
            if self._cloud.clock.now() > until:
                for uuid in [*asked, *(each.uuid for each in waiting)]:
                    self._leave(uuid, "not finished in time, going on without being watched", result)
                return result
            if asked:
                self._cloud.clock.wait(threading.Event(), LOOK_SECONDS)
        return result

    def _asking(self) -> Context:
        return replace(self._ctx, deadline=Deadline.after(ASK_SECONDS, self._cloud.clock))

    def _ask(self, cell: Cell, instance: Instance, asked: dict[str, str], result: Result) -> None:
        with self._cloud.db.connect() as tx:
            under_way = moves.active_of(tx, instance.uuid)
        if under_way is not None:
            asked[instance.uuid] = under_way.uuid
            return
        try:
            kind = self._kind(instance)
            plan = MovePlan(target_host=self._wanted.to, cross_cell=self._wanted.cross_cell)
            asked[instance.uuid] = asking.accept(
                self._cloud, self._asking(), self._superconductor, cell, instance, kind, plan
            )
        except InstanceNotFound:
            log.info("server was deleted meanwhile", extra=about(self._ctx, instance=instance.uuid))
        except Unavailable:
            raise
        except PolycellError as error:
            self._leave(instance.uuid, str(error), result)

    def _kind(self, instance: Instance) -> MoveKind:
        """Raises Invalid for a server that can't be moved in its state."""
        if self._wanted.evacuate:
            return MoveKind.EVACUATE
        if instance.vm_state in LIVE_STATES and self._wanted.live:
            return MoveKind.LIVE
        if instance.vm_state in (VmState.ACTIVE, VmState.STOPPED):
            return MoveKind.COLD
        raise Invalid(reason=f"a server that is {instance.vm_state.value} can't be moved")

    def _see(self, asked: dict[str, str], result: Result) -> None:
        """Take note of the moves that are over, and confirm those that wait for it."""
        with self._cloud.db.connect() as tx:
            now = {move.uuid: move for move in moves.get_many(tx, list(asked.values()))}
        for uuid, move_uuid in list(asked.items()):
            move = now.get(move_uuid)
            if move is not None and move.phase is MovePhase.WAITING:
                self._confirm(uuid, move.uuid)
            elif move is not None and "pass_on" in move.plan.done:
                asked[uuid] = moves.next_uuid(move)
            elif move is None or move.phase in _OVER:
                del asked[uuid]
                if move is None or move.plan.home in ("target", "nowhere"):
                    result.moved.append(uuid)
                    self._told(uuid, "")
                else:
                    self._leave(uuid, move.plan.fault or "its move was undone", result)

    def _confirm(self, uuid: str, move_uuid: str) -> None:
        def work(tx: Connection) -> bool:
            move = moves.get(tx, move_uuid)
            if move is None:
                return False
            plan = replace(move.plan, event_action="confirmResize", errand=None, fault="", retries=0)
            return moves.steer(
                tx, move_uuid, self._cloud.clock.now(), source=MovePhase.WAITING, target=MovePhase.CONFIRMING,
                plan=plan, request_id=self._ctx.request_id,
            )  # fmt: skip

        if self._cloud.db.run(work):
            asking.wake(self._ctx, self._superconductor, move_uuid)

    def _leave(self, uuid: str, reason: str, result: Result) -> None:
        result.left[uuid] = reason
        self._told(uuid, reason)


def servers_on(cell: Cell, host: str, ctx: Context) -> list[Instance]:
    """The servers that the cell has on the host."""
    with cell.db.connect(ctx.deadline) as tx:
        return [instance for instance in instances.on_host(tx, host) if not instance.hidden]
