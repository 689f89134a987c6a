"""`bench seed` and `bench unseed`: a cloud filled with made-up instances, for measurements.

They are ACTIVE on hosts that exist nowhere but in their rows: no service, no compute node and no host mapping has such
a name, so no agent sees them and the scheduler never chooses them. Each made-up host has a resource provider that is
exactly full. So instances, mappings, request specs, allocations and quota usage agree.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, true

from cell_service.context import Deadline
from cell_service.db.schema import instance_actions, instance_actions_events, instances, operations, tags
from cell_service.errors import CellMappingNotFound, ResourceProviderInUse
from mapping_db import cell_mappings, instance_mappings, quotas, request_specs
from mapping_db.cell_mappings import CellMapping
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations, inventories, providers
from mapping_db.placement.inventories import Inventory
from mapping_db.schema import resource_providers
from tools.manage import seed_rows
from tools.manage.cloud import COMMAND_SECONDS
from tools.manage.command import Args, arg, command
from tools.manage.confirming import DRY_RUN, YES, confirm
from tools.manage.named_cells import the_one
from tools.manage.out import Out
from tools.manage.seed_rows import Planned

_BATCH = 500


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


@command("bench seed",
         arg("--instances", type=_positive, required=True, metavar="N", help="so many in all, dealt out to the cells"),
         arg("--cells", default="all", metavar="NAMES", help="all, or names or uuids with commas between"),
         arg("--project", default="bench", metavar="ID", help="whose they are"),
         arg("--hosts-per-cell", type=_positive, default=20, metavar="H", help="so many hosts are made up"),
         arg("--seed", type=int, default=1, metavar="S", help="the same seed gives the same instances"))  # fmt: skip
def seed(cloud: Cloud, args: Args, out: Out) -> int:
    """Fill cells with made-up instances. Run again it adds only what is missing. 0 they are there; 1 no such cell."""
    chosen = _chosen(cloud, args.cells, out)
    if chosen is None:
        return 1
    made = 0
    with out.progress("seeding instances", args.instances) as step:
        for place, cell in enumerate(chosen):
            count = args.instances // len(chosen) + (place < args.instances % len(chosen))
            planned = seed_rows.plan(cell, args.project, args.seed, count, args.hosts_per_cell)
            _prepare_hosts(cloud, planned)
            for start in range(0, count, _BATCH):
                batch = planned[start : start + _BATCH]
                made += _store(cloud, cell, batch, args.project)
                step(len(batch))
    out.value(f"{made} instances were made in {len(chosen)} cells.", made=made, cells=[cell.shown for cell in chosen],
              project=args.project)  # fmt: skip
    return 0


@command("bench unseed",
         arg("--cells", default="all", metavar="NAMES", help="all, or names or uuids with commas between"),
         arg("--project", metavar="ID", help="only those of this project"), YES, DRY_RUN)  # fmt: skip
def unseed(cloud: Cloud, args: Args, out: Out) -> int:
    """Remove all that `bench seed` has made. 0 nothing of it is left; 1 no such cell."""
    chosen = _chosen(cloud, args.cells, out)
    if chosen is None:
        return 1
    counts = [(cell.name or None, cell.uuid, _count_seeded(cloud, cell, args.project)) for cell in chosen]
    total = sum(count for _, _, count in counts)
    if args.dry_run:
        out.table(("Cell Name", "Cell UUID", "Instances"), counts)
        return 0
    if total:
        whose = f" of project {args.project}" if args.project else ""
        confirm(args, out, f"This removes {total} made-up instances{whose} from {len(chosen)} cells.", args.cells)
    removed = 0
    with out.progress("removing instances", total) as step:
        for cell in chosen:
            opened = cloud.cells.open(cell.id)
            while uuids := _seeded(opened, args.project, cloud):
                _forget(cloud, uuids)
                opened.db.run(lambda tx, uuids=uuids: _drop(tx, uuids), _soon(cloud))  # type: ignore[misc]
                removed += len(uuids)
                step(len(uuids))
            _drop_hosts(cloud, cell)
    out.value(f"{removed} instances were removed.", removed=removed)
    return 0


def _chosen(cloud: Cloud, names: str, out: Out) -> list[CellMapping] | None:
    """The cells of these names, cell0 never; None when one is not there."""
    with cloud.db.connect() as tx:
        there = [cell for cell in cell_mappings.every(tx) if not cell.is_cell0]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    try:
        chosen = there if names == "all" else [the_one(there, name) for name in wanted]
    except CellMappingNotFound as error:
        out.warn(str(error))
        return None
    if not chosen:
        out.warn("No cell is mapped." if wanted else "No cell is named.")
        return None
    return sorted(set(chosen), key=lambda cell: cell.id)


def _prepare_hosts(cloud: Cloud, planned: Sequence[Planned]) -> None:
    """Give each made-up host a provider with capacity for its instances, and for nothing else."""

    def work(tx: Connection, host: str, totals: dict[str, int], now: datetime) -> None:
        uuid = seed_rows.provider_uuid(host)
        provider = providers.by_uuids(tx, [uuid]).get(uuid) or providers.add(tx, uuid, host, now)
        have = inventories.of_provider(tx, provider.id)
        wanted = {
            name: Inventory(total=max(totals.get(name, 0), have[name].total if name in have else 0))
            for name in totals.keys() | have.keys()
        }
        if {name: each.total for name, each in have.items()} != {name: each.total for name, each in wanted.items()}:
            inventories.put(tx, provider, wanted, None, now)

    for host, totals in seed_rows.host_totals(planned).items():
        cloud.db.run(lambda tx, host=host, totals=totals: work(tx, host, totals, cloud.clock.now()))  # type: ignore[misc]


def _store(cloud: Cloud, cell: CellMapping, batch: Sequence[Planned], project_id: str) -> int:
    """Store the instances: first in the cell, then all that is global in one transaction. Answers how many were new."""
    made = {planned.uuid: seed_rows.instance(planned, project_id) for planned in batch}

    def in_cell(tx: Connection) -> None:
        there = set(tx.scalars(select(instances.c.uuid).where(instances.c.uuid.in_(list(made)))))
        missing = [each for uuid, each in made.items() if uuid not in there]
        if missing:
            tx.execute(insert(instances), [seed_rows.cell_row(each) for each in missing])
            tx.execute(insert(instance_actions), [seed_rows.action_row(each) for each in missing])

    def everywhere(tx: Connection) -> int:
        there = instance_mappings.get_many(tx, made)
        missing = [planned for planned in batch if planned.uuid not in there]
        fresh = [made[planned.uuid] for planned in missing]
        if not fresh:
            return 0
        now = cloud.clock.now()
        instance_mappings.insert_new(tx, [seed_rows.mapping(each, cell) for each in fresh])
        request_specs.insert_new(tx, [seed_rows.spec(each) for each in fresh], now)
        allocations.write(tx, [seed_rows.claim(planned, project_id) for planned in missing], now)
        used = Counter(instances=len(fresh))
        used.update(cores=sum(each.flavor.vcpus for each in fresh), ram=sum(each.flavor.memory_mib for each in fresh))
        quotas.reserve(tx, project_id, seed_rows.USER, used, limits={})
        return len(fresh)

    cloud.cells.open(cell.id).db.run(in_cell, _soon(cloud))
    return cloud.db.run(everywhere)


def _seeded(cell: Cell, project_id: str | None, cloud: Cloud) -> list[str]:
    """Some of the made-up instances of the cell; deleted ones among them."""
    with cell.db.connect(_soon(cloud)) as tx:
        return list(tx.scalars(select(instances.c.uuid).where(_is_seeded(project_id)).limit(_BATCH)))


def _count_seeded(cloud: Cloud, cell: CellMapping, project_id: str | None) -> int:
    query = select(func.count()).select_from(instances).where(_is_seeded(project_id))
    with cloud.cells.open(cell.id).db.connect(_soon(cloud)) as tx:
        return tx.scalar(query) or 0


def _is_seeded(project_id: str | None) -> ColumnElement[bool]:
    return and_(
        instances.c.host.startswith(seed_rows.HOST_PREFIX, autoescape=True),
        instances.c.reservation_id == seed_rows.RESERVATION,
        true() if project_id is None else instances.c.project_id == project_id,
    )


def _forget(cloud: Cloud, uuids: Sequence[str]) -> None:
    """Delete all global rows of the instances; quota is released for those that were not being deleted."""

    def work(tx: Connection) -> None:
        there = instance_mappings.get_many(tx, uuids)
        used: dict[tuple[str, str], Counter[str]] = {}
        for each in there.values():
            if not each.queued_for_delete:
                owner = used.setdefault((each.project_id, each.user_id), Counter())
                owner.update({"instances": 1, "cores": each.vcpus, "ram": each.memory_mb})
        for (project_id, user_id), deltas in sorted(used.items()):
            quotas.release(tx, project_id, user_id, deltas)
        have = allocations.of_consumers(tx, uuids)
        empty = [allocations.Claim(uuid, {}, "", "") for uuid in have]
        allocations.write(tx, empty, cloud.clock.now())
        request_specs.remove(tx, uuids)
        instance_mappings.remove(tx, uuids)

    cloud.db.run(work)


def _drop(tx: Connection, uuids: Sequence[str]) -> None:
    actions = select(instance_actions.c.id).where(instance_actions.c.instance_uuid.in_(uuids))
    tx.execute(delete(instance_actions_events).where(instance_actions_events.c.action_id.in_(actions)))
    tx.execute(delete(instance_actions).where(instance_actions.c.instance_uuid.in_(uuids)))
    tx.execute(delete(operations).where(operations.c.instance_uuid.in_(uuids)))
    tx.execute(delete(tags).where(tags.c.resource_id.in_(uuids)))
    tx.execute(delete(instances).where(instances.c.uuid.in_(uuids)))


def _drop_hosts(cloud: Cloud, cell: CellMapping) -> None:
    """Remove the providers of the cell's made-up hosts, but for those with allocations."""
    condition = resource_providers.c.name.startswith(f"{seed_rows.HOST_PREFIX}{cell.id}-", autoescape=True)
    with cloud.db.connect() as tx:
        uuids = list(tx.scalars(select(resource_providers.c.uuid).where(condition)))
    for uuid in uuids:
        try:
            cloud.db.run(lambda tx, uuid=uuid: providers.remove(tx, providers.get(tx, uuid), cloud.clock.now()))  # type: ignore[misc]
        except ResourceProviderInUse:
            continue


def _soon(cloud: Cloud) -> Deadline:
    return Deadline.after(COMMAND_SECONDS, cloud.clock)
