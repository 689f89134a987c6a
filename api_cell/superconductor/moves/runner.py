"""Running moves: claimed under a lease, a step at a time, waiting for hosts without a thread."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from api_cell.servers.moves import kinds
from api_cell.superconductor.context import SuperConductorContext
from api_cell.superconductor.moves import recipes, secrets
from api_cell.superconductor.moves.recipe import Recipe
from api_cell.superconductor.moves.step_context import Elsewhere, StepContext, StepFailed, Superseded
from cell_service.backoff import Backoff
from cell_service.context import internal
from cell_service.db import operations
from cell_service.errors import OperationLost, PolycellError, Unavailable, UnknownSteps
from cell_service.logs import about
from cell_service.model.move import MovePhase, Owner
from cell_service.model.operation import UNFINISHED
from mapping_db import instance_mappings, moves
from mapping_db.cells.registry import Cell
from mapping_db.moves import Move

log = logging.getLogger(__name__)

CONCURRENT = 8
POLL_SECONDS = 0.1
MOST_CLAIMED = 500
POLL_DEADLINE_SECONDS = 2.0
"""How long a cell that does not answer may keep the moves of others waiting, before its breaker opens."""
PATIENCE = 8
"""How often a move that is not committed is postponed because a cell does not answer, before it is undone."""
UNKNOWN_SECONDS = 600.0
"""How long a move is left alone of which a step is recorded that this version does not know."""
LONGEST_PAUSE_SECONDS = 15.0
_PAUSES = Backoff(first=0.25, longest=LONGEST_PAUSE_SECONDS, spread=(1, 1))
CLEARING_SECONDS = 5.0
"""How long a host that has something to remove is watched closely."""
KEEP = timedelta(days=1)
"""How long moves that have ended are kept."""


class Runner:
    """The moves of one super-conductor. `scan` and `poll` are called by its threads; `wake` by any."""

    def __init__(self, deps: SuperConductorContext) -> None:
        self._deps = deps
        self._pool = ThreadPoolExecutor(CONCURRENT, thread_name_prefix="move")
        self._lock = threading.Lock()
        self._claimed: dict[str, Move] = {}
        self._busy: set[str] = set()
        self._waiting_since: dict[str, float] = {}
        self.woken = threading.Event()

    def stop(self) -> None:
        """Take no more steps; what is half done is taken over by others when its lease ends."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def wake(self) -> None:
        self.woken.set()

    @property
    def waiting(self) -> bool:
        """Whether any move waits for a host."""
        return bool(self._claimed)

    def scan(self) -> None:
        """Claim the moves that no super-conductor has, and renew the leases of those that are claimed."""
        deps, now = self._deps, self._deps.cloud.clock.now()
        with self._lock:
            claimed = list(self._claimed)

        def work(tx: Connection) -> list[str]:
            moves.renew(tx, claimed, owner=deps.owner, now=now, lease_seconds=deps.settings.lease_seconds)
            return moves.due(tx, now, owner=deps.owner, limit=MOST_CLAIMED)

        due = deps.cloud.db.run(work)
        for uuid in due:
            if uuid not in self._claimed:
                take = partial(moves.take, uuid=uuid, owner=deps.owner, now=now,
                               lease_seconds=deps.settings.lease_seconds)  # fmt: skip
                move = deps.cloud.db.run(lambda tx, take=take: take(tx))  # type: ignore[misc]
                if move is not None:
                    with self._lock:
                        self._claimed[uuid] = move
                    self._submit(uuid)

    def poll(self) -> None:
        """Go on with the moves whose hosts are through."""
        by_cell: dict[int, dict[int, str]] = defaultdict(dict)
        now = self._deps.cloud.clock.monotonic()
        with self._lock:
            idle = [move for uuid, move in self._claimed.items() if uuid not in self._busy]
        for move in idle:
            if move.plan.awaited is not None:
                by_cell[move.plan.awaited.cell_id][move.plan.awaited.operation_id] = move.uuid
                self._waiting_since.setdefault(move.uuid, now)

        def ended(cell: Cell) -> list[str]:
            awaited = by_cell[cell.mapping.id]
            with cell.db.connect(ctx.deadline) as tx:
                found = operations.get_many(tx, list(awaited))
            return [uuid for key, uuid in awaited.items() if key not in found or found[key].phase not in UNFINISHED]

        ctx = internal(self._deps.cloud.clock, seconds=POLL_DEADLINE_SECONDS)
        gathered = self._deps.cloud.cells.scatter(by_cell, ended, ctx.deadline)
        through = {uuid for answer in gathered.answers.values() for uuid in answer}
        for cell_id in gathered.failures:  # the step finds the consequence by itself
            through |= set(by_cell[cell_id].values())
        for uuid in through:
            self._submit(uuid)
        for move in idle:
            slow = now - self._waiting_since.get(move.uuid, now) > CLEARING_SECONDS
            if slow and move.phase is MovePhase.TIDYING and move.uuid not in through:
                self._put_off(StepContext(self._deps, move), LONGEST_PAUSE_SECONDS / 3)

    def tidy(self) -> None:
        """Delete moves that ended long ago."""
        before = self._deps.cloud.clock.now() - KEEP
        self._deps.cloud.db.run(lambda tx: moves.purge(tx, before))

    def confirm_late(self) -> None:
        """Confirm what waits for longer than the configured window (0: for ever)."""
        cloud, seconds = self._deps.cloud, self._deps.settings.resize_confirm_seconds
        if seconds <= 0:
            return
        before = cloud.clock.now() - timedelta(seconds=seconds)
        with cloud.db.connect() as tx:
            late = moves.parked_since(tx, before, MOST_CLAIMED)
        for move in late:
            plan = replace(move.plan, event_action=kinds.CONFIRM)
            steer = partial(moves.steer, uuid=move.uuid, now=cloud.clock.now(), source=MovePhase.WAITING,
                            target=MovePhase.CONFIRMING, plan=plan,
                            request_id=internal(cloud.clock).request_id)  # fmt: skip
            cloud.db.run(lambda tx, steer=steer: steer(tx))  # type: ignore[misc]
        if late:
            self.wake()

    # -- one move ---------------------------------------------------------------------------------

    def _submit(self, uuid: str) -> None:
        with self._lock:
            if uuid in self._busy or uuid not in self._claimed:
                return
            self._busy.add(uuid)
        try:
            self._pool.submit(self._work, uuid)
        except RuntimeError:
            log.info("the process ends", extra={"about": {"move": uuid}})

    def _work(self, uuid: str) -> None:
        with self._lock:
            move = self._claimed.get(uuid)
            if move is None:  # released meanwhile
                self._busy.discard(uuid)
                return
        context = StepContext(self._deps, move)
        self._waiting_since.pop(uuid, None)
        keeps = False
        try:
            keeps = self._run(context)
        except Exception:
            log.exception("a move has stopped", extra=_about(context))
        finally:
            with self._lock:
                self._busy.discard(uuid)
                if keeps:
                    self._claimed[uuid] = context.move
                else:
                    self._claimed.pop(uuid, None)

    def _run(self, context: StepContext) -> bool:
        """Whether the move is still claimed, waiting for a host."""
        try:
            self._refresh(context)
            secrets.seal_recorded(context)
            return self._bring(context)
        except OperationLost:
            log.info("move claimed by another super-conductor", extra=_about(context))
        except UnknownSteps as error:
            log.error("move left alone", extra=_about(context, reason=error))
            self._put_off(context, UNKNOWN_SECONDS)
        except Superseded:
            log.info("move superseded by a delete", extra=_about(context))
            return self._steer(context, MovePhase.TIDYING, free=True, final_owner=Owner.NONE)
        except Elsewhere as refused:
            log.warning(
                "another host is tried", extra=_about(context, host=context.move.target_host, reason=refused.reason)
            )
            return self._steer(context, MovePhase.LEAVING, fault=refused.reason)
        except StepFailed as failed:
            return self._failed(context, failed)
        except Unavailable as error:
            if context.move.attempt >= PATIENCE and not recipes.is_committed(context.move):
                return self._failed(context, _step_failed(error, 503))
            log.warning("move put off", extra=_about(context, reason=error))
            self._put_off(context)
        except PolycellError as error:
            return self._failed(context, _step_failed(error, error.status))
        except Exception as error:
            log.exception("step of a move failed", extra=_about(context))
            return self._failed(context, StepFailed(f"Unexpected {type(error).__name__}."))
        return False

    def _refresh(self, context: StepContext) -> None:
        """Raises OperationLost."""
        with self._deps.cloud.db.connect() as tx:
            now = moves.get(tx, context.move.uuid)
        if now is None or now.fence != context.move.fence:
            raise OperationLost(operation_id=context.move.uuid, fence=context.move.fence)
        context.move = now

    def _bring(self, context: StepContext) -> bool:
        """Step by step, until one waits for a host (True) or the move is parked or at its end (False).

        Raises UnknownSteps.
        """
        while context.move.finished_at is None and not context.move.is_parked:
            recipe = recipes.recipe_of(context.move)
            step = recipe.next_step(context.plan.done)
            context.demand_lease()
            if step is None:
                self._follow(context, recipe)
                continue
            context.step = step.name
            if step.do(context):
                context.record(plan=replace(context.plan_when_done, awaited=None), attempt=0)
                log.info("step of a move done", extra=_about(context, step=step.name))
            elif context.plan.awaited is not None:
                return True
        return False

    def _follow(self, context: StepContext, recipe: Recipe) -> None:
        """Begin the next phase after the one that is over, or park the move.

        Raises Superseded where the move would wait for a server that is to be deleted: the request that accepted the
        delete has not found the move waiting, so it ends here. The mapping's row decides which comes first.
        """
        before, now = context.move.phase, self._deps.cloud.clock.now()
        plan = replace(context.plan, awaited=None, retries=0, final_owner=recipe.owner or context.plan.final_owner)
        columns: dict[str, Any] = {"phase": recipe.after, "plan": plan, "attempt": 0, "sealed": None}
        if recipe.after is MovePhase.TIDYING:
            columns |= {"active": None}
        elif recipe.after is MovePhase.DONE:
            columns |= {"active": None, "finished_at": now}
        if recipe.after is before or recipe.after is MovePhase.DONE:
            columns |= {"owner": None, "lease_until": None, "not_before": None}
        begins_to_wait = recipe.after is MovePhase.WAITING and before is not MovePhase.WAITING

        def work(tx: Connection) -> Move:
            if begins_to_wait and instance_mappings.lock_row(tx, context.move.instance_uuid).queued_for_delete:
                raise Superseded
            return moves.record(tx, context.move, now, **columns)

        context.move = self._deps.cloud.db.run(work)
        log.info("phase of a move over", extra=_about(context, final_owner=plan.final_owner.value))
        if before is MovePhase.LEAVING:  # the move that goes on from it may begin
            self.wake()

    def _failed(self, context: StepContext, failed: StepFailed) -> bool:
        """Undo the move, also the step that is not recorded: it may be done all the same, or be done late."""
        log.warning("move failed", extra=_about(context, reason=failed.details or failed.reason))
        if recipes.is_committed(context.move):
            self._put_off(context)
            return False
        return self._steer(context, MovePhase.UNDOING, fault=failed.reason, code=failed.code, details=failed.details)

    def _steer(self, context: StepContext, phase: MovePhase, *, free: bool = False, **plan: Any) -> bool:
        """Turn the move to another phase and go on at once. Whether it is claimed after that."""
        now = self._deps.cloud.clock.now()
        columns: dict[str, Any] = {"phase": phase, "plan": replace(context.plan, awaited=None, retries=0, **plan)}
        if free:
            columns["active"] = None
        if phase is not MovePhase.LEAVING:  # a move that goes on from this one takes the password over
            columns["sealed"] = None

        try:
            context.move = self._deps.cloud.db.run(
                lambda tx: moves.record(tx, context.move, now, attempt=0, **columns)
            )  # fmt: skip
        except (OperationLost, Unavailable) as error:
            log.info("move left as it is", extra=_about(context, reason=error))
            return False
        return self._run(context)

    def _put_off(self, context: StepContext, pause: float | None = None) -> None:
        """Release the move for a while that grows."""
        now = self._deps.cloud.clock.now()
        seconds = pause or _PAUSES.pause(context.move.attempt + 1)
        try:
            self._deps.cloud.db.run(
                lambda tx: moves.rest(tx, context.move, now, until=now + timedelta(seconds=seconds))
            )
        except (OperationLost, Unavailable) as error:
            log.info("move not put off", extra=_about(context, reason=error))
        with self._lock:
            self._claimed.pop(context.move.uuid, None)


def _about(context: StepContext, **fields: object) -> dict[str, Any]:
    move = context.move
    return about(
        context.ctx, instance=move.instance_uuid, move=move.uuid, kind=move.kind.value, phase=move.phase.value, **fields
    )


def _step_failed(error: PolycellError, code: int) -> StepFailed:
    public = error.for_users()
    return StepFailed(public, code, details=str(error) if str(error) != public else "")
