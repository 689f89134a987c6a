"""`placement heal_allocations`: what instances should have of their hosts, and have not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from cell_service.context import Deadline
from cell_service.db import compute_nodes, instances
from cell_service.db.schema import instances as table
from cell_service.errors import (
    CellMappingNotFound,
    CellUnavailable,
    ConsumerChanged,
    PolycellError,
)
from cell_service.model import demand
from cell_service.model.instance import Instance
from mapping_db import cell_mappings, instance_mappings, moves, request_specs
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations
from mapping_db.placement.allocations import Amounts, Claim
from tools.manage.cloud import COMMAND_SECONDS, cell_of_instance
from tools.manage.command import Args, arg, command
from tools.manage.failures import explained
from tools.manage.named_cells import HELP, the_one
from tools.manage.out import Out

_BATCH = 500
HEALED, MORE, NO_NODE, FAILED, NOTHING, BAD = 0, 1, 2, 3, 4, 127


@dataclass(frozen=True, slots=True)
class Need:
    """An instance that lacks what it should have: resource class → amount, of the provider. `provider_uuid` None: its
    node has left no record. `generation` None: it has nothing at all. `grouped`: the scheduler alone knows which
    providers are to serve the request groups of its flavor."""

    instance: Instance
    provider_uuid: str | None
    amounts: Amounts
    generation: int | None
    grouped: bool = False


@command("placement heal_allocations",
         arg("--max-count", type=int, default=0, metavar="N", help="heal so many instances at most"),
         arg("--instance", metavar="UUID", help="only this one"),
         arg("--cell", metavar="CELL", help=f"only instances of this cell: {HELP}"),
         arg("--force", flag=True, help="with --instance: write its allocation in place of what it has"),
         arg("--dry-run", flag=True, help="only say what would be done"),
         arg("--skip-port-allocations", flag=True, help="as in Nova; ports have no allocations here"),
         arg("--verbose", flag=True, help="say of each instance what it gets"))  # fmt: skip
def heal_allocations(cloud: Cloud, args: Args, out: Out) -> int:
    """Give instances that have no allocation the one that their flavor and host ask for. Instances with work under way
    are left alone; one that fails does not keep the others from being healed. 0 all are healed; 1 --max-count is
    reached, and there may be more; 2 the compute node of one has no record; 3 one could not be healed; 4 there was
    nothing to do, or it was a dry run; 127 the options contradict each other, or name what is not there."""
    if (args.force and not args.instance) or (args.instance and args.cell) or args.max_count < 0:
        out.warn("--force needs --instance, --instance excludes --cell, and --max-count is above 0.")
        return BAD
    try:
        needs = _needs(cloud, args)
        done, worst = 0, HEALED
        for need in needs:
            if args.max_count and not args.instance and done == args.max_count:
                return worst or (NOTHING if args.dry_run else MORE)
            possible = need.provider_uuid is not None and not need.grouped
            code = NOTHING if args.dry_run and possible else _heal(cloud, need, out)
            done += code in (HEALED, NOTHING)
            worst = max(worst, code) if code != NOTHING else worst
            if args.verbose or args.dry_run:
                out.say(_said(need, code))
    except (CellMappingNotFound, _NoSuchInstance) as error:
        out.warn(str(error))
        return BAD
    except CellUnavailable as error:
        out.warn(explained(error))
        return FAILED
    out.say(f"{'Would heal' if args.dry_run else 'Healed'} {done} instances.")
    return worst or (NOTHING if args.dry_run or not done else HEALED)


class _NoSuchInstance(Exception):
    """No cell has the instance."""


def _needs(cloud: Cloud, args: Args) -> Iterator[Need]:
    """Raises CellMappingNotFound, CellUnavailable, _NoSuchInstance."""
    if args.instance:
        cell = cell_of_instance(cloud, args.instance)
        if cell is None:
            raise _NoSuchInstance(f"No instance {args.instance} is in a cell.")
        yield from _lacking(cloud, cell, [args.instance], force=args.force)
        return
    with cloud.db.connect() as tx:
        every = cell_mappings.every(tx)
    chosen = [the_one(every, args.cell)] if args.cell else [cell for cell in every if not cell.is_cell0]
    for mapping in chosen:
        cell, last = cloud.cells.open(mapping.id), 0
        while True:
            with cell.db.connect(_deadline(cloud)) as tx:
                query = select(table.c.id, table.c.uuid).where(
                    table.c.id > last, table.c.deleted_at.is_(None), table.c.host.is_not(None)
                )
                rows = tx.execute(query.order_by(table.c.id).limit(_BATCH)).all()
            if not rows:
                break
            yield from _lacking(cloud, cell, [row.uuid for row in rows], force=False)
            last = rows[-1].id


def _lacking(cloud: Cloud, cell: Cell, uuids: list[str], *, force: bool) -> Iterator[Need]:
    """The instances among these that are at rest on a host of the cell, and have nothing of any provider; with `force`
    also those that have."""
    with cloud.db.connect() as tx:
        have = allocations.of_consumers(tx, uuids)
        mapped = {
            uuid
            for uuid, mapping in instance_mappings.get_many(tx, uuids).items()
            if mapping.cell_id == cell.mapping.id and not (mapping.gone or mapping.queued_for_delete)
        }
        mapped -= moves.moving_among(tx, uuids)
        wanted = [uuid for uuid in uuids if uuid in mapped and (force or uuid not in have)]
        specs = request_specs.get_many(tx, wanted)
    with cell.db.connect(_deadline(cloud)) as tx:
        found = instances.get_many(tx, wanted)
        nodes = compute_nodes.uuids_on(tx, {each.host for each in found.values() if each.host is not None})
    for uuid in wanted:
        instance = found.get(uuid)
        if instance is None or instance.host is None or instance.task_state is not None:
            continue
        spec, consumer = specs.get(uuid), have.get(uuid)
        amounts = demand.of_flavor(instance.flavor, volume_backed=spec is not None and spec.volume_backed)
        provider = nodes.get((instance.host, instance.node or instance.host))
        grouped = any(demand.by_suffix(instance.flavor).keys() - {""})
        yield Need(instance, provider, amounts, consumer.generation if consumer else None, grouped)


def _heal(cloud: Cloud, need: Need, out: Out) -> int:
    """Write the allocation, if the instance has none meanwhile. Answers the exit code."""
    instance = need.instance
    if need.provider_uuid is None:
        out.warn(f"Instance {instance.uuid}: its compute node {instance.node} on {instance.host} has no record.")
        return NO_NODE
    if need.grouped:
        out.warn(f"Instance {instance.uuid}: its flavor has request groups; a migration allocates what they need.")
        return FAILED
    claim = Claim(
        instance.uuid, {need.provider_uuid: need.amounts}, instance.project_id, instance.user_id, "INSTANCE",
        need.generation,
    )  # fmt: skip
    now = cloud.clock.now()

    def work(tx: Connection) -> None:
        allocations.write(tx, [claim], now)

    try:
        cloud.db.run(work)
    except ConsumerChanged:
        return NOTHING  # it has one by now
    except PolycellError as error:
        out.warn(f"Instance {instance.uuid}: {explained(error)}")
        return FAILED
    return HEALED


def _said(need: Need, code: int) -> str:
    amounts = ", ".join(f"{name} {amount}" for name, amount in sorted(need.amounts.items()))
    verb = {HEALED: "has now", NOTHING: "needs"}.get(code, "lacks")
    return f"Instance {need.instance.uuid} {verb} {amounts} of {need.provider_uuid or need.instance.host}."


def _deadline(cloud: Cloud) -> Deadline:
    return Deadline.after(COMMAND_SECONDS, cloud.clock)
