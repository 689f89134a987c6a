"""Where the code of the recorded version is to stop: the pieces of work that stand still, and what makes them."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from typing import Any

from api_cell.superconductor.moves.turn import Failed

import compute_host.agent as agent_module
import mapping_db.moves as move_rows
from api_cell.superconductor import placing
from api_cell.superconductor.moves import phases
from cell_service.conductor import builds
from cell_service.errors import DriverError
from cell_service.model.move import MovePhase
from compute_host.virt.simulated.driver import SimulatedDriver

PASSWORD = "cl3ar-Pa55word"
NEAR, FAR, HERE, DEAD = "cell1-host2", "cell2-host1", "cell1-host1", "cell1-host3"
Case = dict[str, Any]


class Stopped(BaseException):
    """The process is gone, as far as the work knows."""


stops: dict[str, tuple[str, str]] = {}
"""Instance → phase and step before which its move stands still."""
failing: dict[str, str] = {}
"""Instance → the step that fails."""
on_hosts: set[tuple[str, str]] = set()
"""Instance and kind of the operation that its host claims and does not do."""
unanswered: set[str] = set()
"""Instances whose moves are begun by an API that dies."""
halted: set[str] = set()
"""Moves, and build requests by stage and name, that stand still."""
refused: set[str] = set()
"""Instances that their first destination refuses."""
closed = threading.Event()
"""No host claims anything any more."""


def stopping(step: Any) -> Any:
    @functools.wraps(step)
    def act(turn: Any) -> bool:
        uuid, name = turn.move.instance_uuid, step.__name__
        if stops.get(uuid) == (turn.move.phase.value, name):
            halted.add(turn.move.uuid)
            raise Stopped
        if turn.move.phase is MovePhase.GOING and failing.get(uuid) == name:
            raise Failed("It was not to be.")
        return bool(step(turn))

    return act


def wrap() -> None:
    """The code stops where it is told to."""
    tables: list[Any] = [phases.GOING, phases.LATER]
    for table in tables:
        for key, phase in list(table.items()):
            table[key] = replace(phase, steps=tuple(stopping(step) for step in phase.steps))
    take_move, rest, perform, take_work = move_rows.take, move_rows.rest, agent_module.perform, agent_module.Agent._take
    receive, spawn = SimulatedDriver.receive, SimulatedDriver.spawn
    choose, hand_over, point = placing._choose, placing._hand_over, placing._point

    def taken(tx: Any, uuid: str, **how: Any) -> Any:
        return None if uuid in halted else take_move(tx, uuid, **how)

    def rested(tx: Any, move: Any, now: Any, **how: Any) -> None:
        if move.instance_uuid not in unanswered or not (move.owner or "").startswith("api:"):
            rest(tx, move, now, **how)

    def performed(hands: Any, job: Any) -> Any:
        work = job.work
        if (work.instance.uuid, work.operation.kind.value) in on_hosts or work.instance.display_name in on_hosts:
            raise Stopped
        if work.instance.display_name == "build-running":
            raise Stopped
        return perform(hands, job)

    def worked(agent: Any) -> None:
        if not closed.is_set():
            take_work(agent)

    def received(driver: Any, spec: Any, luggage: Any) -> None:
        if spec.instance.uuid in refused:
            refused.discard(spec.instance.uuid)
            raise DriverError(reason="No.")
        receive(driver, spec, luggage)

    def spawned(driver: Any, spec: Any) -> None:
        if spec.instance.display_name == "build-moving":
            raise DriverError(reason="No.")
        spawn(driver, spec)

    def chosen(means: Any, requests: Any) -> Any:
        left = kept("build-taken", requests)
        return choose(means, left) if left else []

    def handed_over(means: Any, cell: Any, requests: Any) -> None:
        left = kept("build-chosen", requests)
        if left:
            hand_over(means, cell, left)

    def kept(stage: str, requests: Any) -> list[Any]:
        for each in requests:
            if each.instance.display_name.startswith(stage):
                halted.add(each.instance.display_name)
        return [each for each in requests if not each.instance.display_name.startswith(stage)]

    def advanced(means: Any, operation: Any) -> None:
        halted.add("build-moving")
        raise Stopped

    move_rows.take, move_rows.rest, agent_module.perform = taken, rested, performed
    agent_module.Agent._take = worked  # type: ignore[method-assign]
    SimulatedDriver.receive, SimulatedDriver.spawn = received, spawned  # type: ignore[method-assign]
    placing._choose = chosen
    placing._hand_over = handed_over
    placing._point = lambda tx, cell_id, requests: point(tx, cell_id, kept("build-stored", requests))
    builds.advance = advanced
