"""Rows that a cell's database has lost, and those of them that can be made again from the global one.

The global database knows of each instance its mapping (project, user, name), its request spec (flavor, image, zone,
hints) and its allocations (the node that it is on), and the network service its ports. Of the cell only its compute
nodes are needed, which their agents report again by themselves. So a row can be made; its power state comes from its
host when the cell's conductor runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from sqlalchemy import Connection, select

from api_cell.servers.create.images import PREFIX
from api_cell.servers.create.server_request import host_name
from cell_service.context import Context, Deadline
from cell_service.db import compute_nodes
from cell_service.db import instances as instance_rows
from cell_service.db.schema import instances as table
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.request_spec import RequestSpec
from cell_service.peers.network import Networks
from mapping_db import build_requests, instance_mappings, moves, request_specs
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.placement import allocations, providers
from tools.manage.cloud import COMMAND_SECONDS

BATCH = 500
RECOVERED_AT = "recovered_at"
"""The key in an instance's system metadata that says when its row was made again."""


class Step(Enum):
    """The fate of an instance's row."""

    MAKE = "make its row"
    MOVE = "correct its host"
    DELETE = "delete it"
    LEAVE = "nothing"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One instance whose row is missing or out of date. `reason`: why nothing can be done, or what is not known."""

    uuid: str
    name: str
    step: Step
    host: str | None = None
    node: str | None = None
    reason: str = ""
    made: Instance | None = None
    host_before: str | None = None
    """The host that the row has, whose correction is only done while it has it."""


@dataclass(frozen=True, slots=True)
class _Row:
    uuid: str
    host: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class _Facts:
    """The global database's records of some instances; `nodes` are uuids of providers that they have something of."""

    specs: dict[str, RequestSpec]
    nodes: dict[str, set[str]]
    busy: set[str]


def with_ports(ctx: Context, networks: Networks, found: Sequence[Recovery]) -> list[Recovery]:
    """The same, with the ports that the network service has for the instances whose rows are made. Raises
    PeerUnavailable."""
    projects = {each.uuid: each.made.project_id for each in found if each.made is not None}
    ports = networks.infos(ctx, projects) if projects else {}
    return [
        each if each.made is None else replace(each, made=replace(each.made, network_info=ports.get(each.uuid, ())))
        for each in found
    ]


class Recovering:
    """Looks through one cell. Raises CellUnavailable, DatabaseUnavailable."""

    def __init__(self, cloud: Cloud, cell: Cell) -> None:
        self._cloud, self._cell = cloud, cell
        with cell.db.connect(self._deadline()) as tx:
            nodes = compute_nodes.list_all(tx)
        self._nodes = {node.report.uuid: (node.host, node.report.node) for node in nodes}

    def plan(self, *, deleted: bool) -> Iterator[Recovery]:
        """Yield the work to be done, and that which can't be, on instances that are the cell's by the mappings.
        `deleted`: also on those that live in the cell though their users have deleted them."""
        last = 0
        while True:
            with self._cloud.db.connect() as tx:
                page = instance_mappings.of_cell(tx, self._cell.mapping.id, limit=BATCH, after_id=last)
            if not page:
                return
            last = page[-1].id
            yield from self._of(page, deleted=deleted)

    def run(self, recovery: Recovery) -> bool:
        """Do it, if the row is still as it was found. Whether it was done. Raises InstanceNotFound for a row that is
        deleted by now."""
        now, uuid = self._cloud.clock.now(), recovery.uuid

        def work(tx: Connection) -> bool:
            match recovery.step:
                case Step.MAKE if recovery.made is not None:
                    return instance_rows.insert_new(tx, recovery.made)
                case Step.MOVE:
                    instance = instance_rows.get_locked(tx, uuid)
                    return (
                        instance.host == recovery.host_before
                        and instance.task_state is None
                        and instance_rows.change(tx, uuid, now=now, host=recovery.host, node=recovery.node)
                    )
                case Step.DELETE:
                    return instance_rows.mark_deleted(tx, uuid, now)
            return False

        return self._cell.db.run(work, self._deadline())

    def _deadline(self) -> Deadline:
        """One for each transaction: a person may think for long before some of them."""
        return Deadline.after(COMMAND_SECONDS, self._cloud.clock)

    def _of(self, page: Sequence[InstanceMapping], *, deleted: bool) -> Iterator[Recovery]:
        rows = self._rows([mapping.instance_uuid for mapping in page])
        facts = self._facts([mapping.instance_uuid for mapping in page if not mapping.gone])
        for mapping in page:
            uuid, row = mapping.instance_uuid, rows.get(mapping.instance_uuid)
            if mapping.gone:
                if deleted and row is not None and not row.deleted:
                    yield Recovery(uuid, mapping.display_name, Step.DELETE, row.host)
            elif uuid in facts.busy:
                if row is None:
                    yield _left(mapping, "it is being built or moved")
            elif row is None:
                yield self._made(mapping, facts)
            elif not row.deleted and (place := self._place(uuid, facts)) is not None and place[0] != row.host:
                reason = f"it was on {row.host}"
                yield Recovery(uuid, mapping.display_name, Step.MOVE, *place, reason=reason, host_before=row.host)

    def _made(self, mapping: InstanceMapping, facts: _Facts) -> Recovery:
        uuid = mapping.instance_uuid
        spec, place = facts.specs.get(uuid), self._place(uuid, facts)
        if spec is None:
            return _left(mapping, "it has no request spec")
        if spec.volume_backed:
            return _left(mapping, "it boots from a volume, and only its row knew which")
        if not facts.nodes.get(uuid):
            return _left(mapping, "it has no allocations: it is shelved, or its build has failed")
        if place is None:
            return _left(mapping, "its host has not reported to the cell: start its agent, and run this again")
        made = _instance(mapping, spec, *place, now=self._cloud.clock.now())
        return Recovery(uuid, mapping.display_name, Step.MAKE, *place, made=made)

    def _place(self, uuid: str, facts: _Facts) -> tuple[str, str] | None:
        """The host and the node on which its allocations are, if that is one of the cell's."""
        found = {self._nodes[node] for node in facts.nodes.get(uuid, ()) if node in self._nodes}
        return found.pop() if len(found) == 1 else None

    def _rows(self, uuids: Sequence[str]) -> dict[str, _Row]:
        query = select(table.c.uuid, table.c.host, table.c.deleted_at)
        with self._cell.db.connect(self._deadline()) as tx:
            rows = tx.execute(query.where(table.c.uuid.in_(list(uuids)))).all()
        return {row.uuid: _Row(row.uuid, row.host, row.deleted_at is not None) for row in rows}

    def _facts(self, uuids: Sequence[str]) -> _Facts:
        with self._cloud.db.connect() as tx:
            taken = allocations.providers_of(tx, uuids)
            known = providers.by_uuids(tx, {provider for those in taken.values() for provider in those})
            nodes = {uuid: {known[each].root_uuid for each in those if each in known} for uuid, those in taken.items()}
            busy = {move.instance_uuid for move in moves.unfinished(tx)} | set(build_requests.get_many(tx, uuids))
            return _Facts(request_specs.get_many(tx, uuids), nodes, busy)


def _left(mapping: InstanceMapping, reason: str) -> Recovery:
    return Recovery(mapping.instance_uuid, mapping.display_name, Step.LEAVE, reason=reason)


def _instance(mapping: InstanceMapping, spec: RequestSpec, host: str, node: str, *, now: datetime) -> Instance:
    """The row, as far as it is known."""
    image = {PREFIX + name: value for name, value in spec.image_properties.items()}
    uuid = mapping.instance_uuid
    return Instance(
        uuid=uuid, project_id=mapping.project_id, user_id=mapping.user_id, display_name=mapping.display_name,
        flavor=spec.flavor, created_at=mapping.created_at, updated_at=now, launched_at=mapping.created_at,
        hostname=host_name(mapping.display_name, f"server-{uuid}"), image_ref=spec.image_id,
        availability_zone=spec.availability_zone, pinned_availability_zone=spec.availability_zone,
        host=host, node=node, launched_on=host, vm_state=VmState.ACTIVE, task_state=None,
        system_metadata={**image, RECOVERED_AT: now.isoformat()}, scheduler_hints=spec.scheduler_hints,
    )  # fmt: skip
