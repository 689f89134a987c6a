"""What must be true of servers that were moved about, once everything is quiet; read behind the services' backs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import select

from cell_service.db import schema
from cell_service.model.lifecycle import PowerState
from cell_service.model.migration import ENDED
from cell_service.model.move import MovePhase
from mapping_db import moves
from mapping_db import schema as tables
from mapping_db.moves import Move
from mapping_db.placement import comparisons
from tests.faults import books
from tests.faults.installation import CELLS, Installation

HOST = "OS-EXT-SRV-ATTR:host"


def unsettled(cloud: Installation) -> list[str]:
    """What is still in flight: operations, moves, tasks, deletes."""
    waiting = books.unsettled(cloud)
    with cloud.reading("api") as tx:
        waiting += [
            f"move {move.uuid} {move.kind} {move.phase} of {move.instance_uuid} after {move.plan.done[-3:]}"
            f" attempt {move.attempt} {move.plan.fault}"
            for move in moves.unfinished(tx)
            if move.phase is not MovePhase.WAITING
        ]
    for cell in CELLS:
        table = schema.instances.c
        with cloud.reading(cell) as tx:
            busy = select(table.uuid, table.vm_state, table.task_state, table.hidden).where(
                table.deleted_at.is_(None), table.task_state.is_not(None), ~table.hidden
            )
            waiting += [f"{cell} {row.uuid} {row.vm_state} {row.task_state}" for row in tx.execute(busy)]
    return waiting


def told(cloud: Installation) -> Counter[str]:
    """How many moves there were, by kind and how they ended."""
    found: Counter[str] = Counter()
    with cloud.reading("api") as tx:
        for row in tx.execute(select(tables.moves.c.uuid)).all():
            move = moves.get(tx, row[0])
            assert move is not None
            ended = move.plan.final_owner.value or "ended"
            how = "failed" if move.plan.fault else "waiting" if move.finished_at is None else ended
            across = " between cells" if move.crosses else ""
            found[f"{move.kind.value}{across}: {how}"] += 1
    return found


def demand_balance(cloud: Installation) -> dict[str, dict[str, Any]]:
    """One owner, one guest and one claim for each server, and nothing else. Answers the servers that are shown."""
    shown = {server["id"]: server for server in cloud.user.servers()}
    waiting = _waiting(cloud)
    demand_one_owner(cloud, shown, waiting)
    demand_guests(cloud, shown, waiting)
    demand_claims(cloud, shown, waiting)
    demand_records(cloud, waiting)
    return shown


def drift(cloud: Installation) -> list[str]:
    """What super-conductors have logged of allocations that differ from instances, at any time; and that they have
    compared them."""
    with cloud.reading("api") as tx:
        newest = comparisons.newest(tx)
    assert newest is not None
    assert newest.ended_at is not None
    logs = (cloud.state / "logs").glob("*")
    return [
        line for log in logs for line in log.read_text("utf-8", "replace").splitlines() if "allocations differ" in line
    ]


def demand_one_owner(cloud: Installation, shown: dict[str, dict[str, Any]], waiting: dict[str, Move]) -> None:
    names = _cell_names(cloud)
    mapped = tables.instance_mappings.c
    with cloud.reading("api") as tx:
        owners = {
            row.instance_uuid: names[row.cell_id]
            for row in tx.execute(select(mapped.instance_uuid, mapped.cell_id).where(~mapped.gone))
        }
    assert owners.keys() == shown.keys()
    open_rows: dict[str, list[str]] = defaultdict(list)
    hidden_rows: dict[str, list[str]] = defaultdict(list)
    for cell in ("cell0", *CELLS):
        table = schema.instances.c
        with cloud.reading(cell) as tx:
            for row in tx.execute(select(table.uuid, table.hidden).where(table.deleted_at.is_(None))):
                (hidden_rows if row.hidden else open_rows)[row.uuid].append(cell)
    assert open_rows == {uuid: [cell] for uuid, cell in owners.items()}
    for uuid, cells in hidden_rows.items():
        assert uuid in waiting, f"{uuid} has a hidden row in {cells}"
        assert waiting[uuid].crosses


def demand_guests(cloud: Installation, shown: dict[str, dict[str, Any]], waiting: dict[str, Move]) -> None:
    """Each server's guest is on its host, and runs if it is ACTIVE; one more stands still where a move came from."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for file in (cloud.state / "hosts").glob("*/*/state.json"):
        for uuid, guest in json.loads(file.read_text(encoding="utf-8"))["guests"].items():
            found[uuid][file.parent.name] = guest
    for uuid, server in shown.items():
        here = found.pop(uuid, {})
        assert server["status"] in ("ACTIVE", "SHUTOFF", "VERIFY_RESIZE", "ERROR"), server
        if server["status"] == "ERROR":
            assert server["fault"]["message"], server
            assert here.keys() <= {server[HOST]}, (uuid, here.keys())
            continue
        may_be = {server[HOST]} | ({waiting[uuid].source_host} if uuid in waiting else set())
        assert here.keys() == may_be, (uuid, server["status"], sorted(here), may_be)
        running = [host for host, guest in here.items() if guest["power_state"] == PowerState.RUNNING.value]
        if server["status"] != "VERIFY_RESIZE":
            assert running == ([server[HOST]] if server["status"] == "ACTIVE" else []), (uuid, server["status"], here)
        assert set(running) <= {server[HOST]}, (uuid, running)
    assert not found, f"left over: {dict(found)}"


def demand_claims(cloud: Installation, shown: dict[str, dict[str, Any]], waiting: dict[str, Move]) -> None:
    """Claims are the servers' flavors at their hosts, and those of moves at rest; quota counts what there is."""
    known = books.living(cloud, hidden=False)
    claims = books.allocations(cloud)
    expected: dict[str, tuple[str | None, int, int]] = {
        uuid: (instance.host, instance.flavor.vcpus, instance.flavor.memory_mib)
        for uuid, instance in known.items() if instance.host is not None
    }  # fmt: skip
    for move in waiting.values():
        old = move.plan.old_flavor
        assert old is not None
        expected[move.uuid] = (move.source_host, old.vcpus, old.memory_mib)
    held = {
        uuid: (host, claims[uuid]["VCPU"], claims[uuid]["MEMORY_MB"]) for uuid, host in _places(cloud).items()
    }  # fmt: skip
    assert held == expected
    sizes = {"instances": len(shown), "cores": 0, "ram": 0}
    for uuid, instance in known.items():
        flavors = [instance.flavor]
        if uuid in waiting:
            flavors += [each for each in (waiting[uuid].plan.old_flavor, waiting[uuid].plan.new_flavor) if each]
        sizes["cores"] += max(flavor.vcpus for flavor in flavors)
        sizes["ram"] += max(flavor.memory_mib for flavor in flavors)
    assert {name: books.quota_in_use(cloud, name) for name in sizes} == sizes


def demand_records(cloud: Installation, waiting: dict[str, Move]) -> None:
    """Migrations and actions have ended."""
    resting = {move.uuid for move in waiting.values()}
    for cell in CELLS:
        table, action = schema.migrations.c, schema.instance_actions.c
        with cloud.reading(cell) as tx:
            for row in tx.execute(select(table.uuid, table.status, table.migration_type).where(~table.hidden)):
                assert row.status in ENDED or (row.status == "finished" and row.uuid in resting), (cell, row)
            here = schema.instances.c
            alive = select(here.uuid).where(here.deleted_at.is_(None), ~here.hidden)
            open_ones = select(action.instance_uuid, action.action, action.request_id).where(
                action.finish_time.is_(None), action.instance_uuid.in_(alive)
            )
            left = tx.execute(open_ones).all()
            assert left == [], (cell, left)


def _waiting(cloud: Installation) -> dict[str, Move]:
    """Moves that wait to be confirmed or reverted, by instance."""
    with cloud.reading("api") as tx:
        return {move.instance_uuid: move for move in moves.unfinished(tx)}


def _places(cloud: Installation) -> dict[str, str]:
    """Consumer → the host that it has something of. Each has of one only."""
    held, provider = tables.allocations.c, tables.resource_providers.c
    with cloud.reading("api") as tx:
        rows = tx.execute(
            select(held.consumer_uuid, provider.name)
            .join(tables.resource_providers, provider.id == held.resource_provider_id)
            .distinct()
        ).all()
    found = {row[0]: str(row[1]) for row in rows}
    assert len(found) == len(rows)
    return found


def _cell_names(cloud: Installation) -> dict[int, str]:
    with cloud.reading("api") as tx:
        rows = tx.execute(select(tables.cell_mappings.c.id, tables.cell_mappings.c.name))
        return {row.id: row.name for row in rows}
