"""What the tables and the hypervisors say, read behind the services' backs, and what must be true of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import func, select

from cell_service.db import instances, schema
from cell_service.model.instance import Instance
from mapping_db import schema as tables
from tests.faults.installation import CELLS, Installation


def guests(cloud: Installation) -> Counter[str]:
    """How many hosts have each guest."""
    found: Counter[str] = Counter()
    for file in (cloud.state / "hosts").glob("*/*/state.json"):
        known = json.loads(file.read_text(encoding="utf-8"))["guests"]
        assert all(guest.get("made", True) for guest in known.values()), known
        found.update(list(known))
    return found


def unsettled(cloud: Installation) -> list[str]:
    """What is still in flight, as the tables have it."""
    waiting = []
    with cloud.reading("api") as tx:
        waiting += [f"build request {row[0]}" for row in tx.execute(select(tables.build_requests.c.instance_uuid))]
        doomed = tables.instance_mappings.c.queued_for_delete & ~tables.instance_mappings.c.gone
        statement = select(tables.instance_mappings.c.instance_uuid).where(doomed)
        waiting += [f"delete {row[0]}" for row in tx.execute(statement)]
    for cell in CELLS:
        with cloud.reading(cell) as tx:
            open_ones = select(schema.operations).where(schema.operations.c.finished_at.is_(None))
            waiting += [
                f"{cell} {row.kind} {row.phase} on {row.host} of {row.instance_uuid}" for row in tx.execute(open_ones)
            ]
    return waiting


def living(cloud: Installation, *, hidden: bool = True) -> dict[str, Instance]:
    """The instances of all cells that are not deleted, hidden rows too if so told. Each is in one cell."""
    found: dict[str, Instance] = {}
    for cell in ("cell0", *CELLS):
        with cloud.reading(cell) as tx:
            there = select(schema.instances.c.uuid).where(schema.instances.c.deleted_at.is_(None))
            uuids = tx.execute(there if hidden else there.where(~schema.instances.c.hidden))
            known = instances.get_many(tx, [row[0] for row in uuids])
        twice = found.keys() & known.keys()
        assert not twice, f"in two cells: {twice}"
        found.update(known)
    return found


def allocations(cloud: Installation) -> dict[str, dict[str, int]]:
    """Consumer → amounts. The sums in the inventories agree with them."""
    held = tables.allocations.c
    with cloud.reading("api") as tx:
        rows = tx.execute(select(held.consumer_uuid, held.resource_class, held.used)).all()
        sums = tx.execute(
            select(held.resource_provider_id, held.resource_class, func.sum(held.used)).group_by(
                held.resource_provider_id, held.resource_class
            )
        ).all()
        have = tables.inventories.c
        used = tx.execute(select(have.resource_provider_id, have.resource_class, have.used)).all()
    added = {(provider, name): int(amount) for provider, name, amount in sums}
    assert added == {(provider, name): amount for provider, name, amount in used if amount}
    found: dict[str, dict[str, int]] = {}
    for consumer, name, amount in rows:
        assert name not in found.setdefault(consumer, {}), f"{consumer} has {name} of two providers"
        found[consumer][name] = amount
    return found


def demand_balance(cloud: Installation) -> dict[str, dict[str, Any]]:
    """Servers, guests, allocations, ports and quota tell the same story. Answers the servers that are shown."""
    shown = {server["id"]: server for server in cloud.user.servers()}
    known = living(cloud)
    assert shown.keys() == known.keys()
    for uuid, server in shown.items():
        status, fault = server["status"], server.get("fault", {}).get("message")
        assert status == "ACTIVE" or (status == "ERROR" and fault), (uuid, status, server.get("fault"))
    active = {uuid for uuid, server in shown.items() if server["status"] == "ACTIVE"}
    assert guests(cloud) == Counter(active)
    placed = {uuid: instance for uuid, instance in known.items() if instance.host is not None}
    claims = allocations(cloud)
    assert claims.keys() == placed.keys()
    for uuid, instance in placed.items():
        assert claims[uuid]["VCPU"] == instance.flavor.vcpus
        assert claims[uuid]["MEMORY_MB"] == instance.flavor.memory_mib
    ports = Counter(port["device_id"] for port in cloud.user.ports())
    assert {uuid: ports[uuid] for uuid in active} == dict.fromkeys(active, 1)
    assert ports.keys() <= shown.keys()
    assert quota_in_use(cloud, "instances") == len(shown)
    return shown


def demand_nothing(cloud: Installation) -> None:
    """No trace is left that anybody must sweep up."""
    assert demand_balance(cloud) == {}
    with cloud.reading("api") as tx:
        for statement in (
            select(tables.instance_mappings.c.instance_uuid).where(~tables.instance_mappings.c.gone),
            select(tables.build_requests.c.instance_uuid),
            select(tables.request_specs.c.instance_uuid),
            select(tables.consumers.c.uuid),
        ):
            assert tx.execute(statement).all() == [], str(statement)
    assert {quota_in_use(cloud, name) for name in ("instances", "cores", "ram")} == {0}


def quota_in_use(cloud: Installation, resource: str) -> int:
    counted = tables.quota_usages.c
    with cloud.reading("api") as tx:
        statement = select(counted.in_use).where(
            counted.project_id == cloud.user.project_id, counted.user_id == "", counted.resource == resource
        )
        return int(tx.execute(statement).scalar() or 0)
