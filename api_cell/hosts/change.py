"""Changes of hosts by operators, across the cell's and the global database."""

from __future__ import annotations

import contextlib

from sqlalchemy import Connection

from cell_service.context import Context
from cell_service.db import compute_nodes, instances, operations, services
from cell_service.errors import (
    ComputeHostNotFound,
    Conflict,
    GenerationConflict,
    HostMappingNotFound,
    ResourceProviderNotFound,
    ServiceNotFound,
)
from cell_service.model.host import ComputeNode, Service
from mapping_db import aggregates, host_mappings, host_moves
from mapping_db.cloud import Cloud
from mapping_db.placement import providers, traits

DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
_ATTEMPTS = 5


def change_service(
    cloud: Cloud,
    ctx: Context,
    cell_id: int,
    service: Service,
    *,
    disabled: bool | None = None,
    disabled_reason: str | None = None,
    forced_down: bool | None = None,
) -> Service:
    """Change the service; a compute host's providers say whether it is disabled.

    First the cell's row, then placement. Killed between the two, the scheduler still sees the row.
    """
    now = cloud.clock.now()

    def work(tx: Connection) -> tuple[Service, list[ComputeNode]]:
        changed = services.change(
            tx,
            service.uuid,
            now=now,
            disabled=disabled,
            disabled_reason=disabled_reason,
            forced_down=forced_down,
        )
        return changed, compute_nodes.list_all(tx, host=service.host)

    changed, nodes = cloud.cells.open(cell_id).db.run(work, ctx.deadline)
    for other in _also_in(cloud, service) - {cell_id}:
        with contextlib.suppress(ServiceNotFound):
            cloud.cells.open(other).db.run(work, ctx.deadline)
    if disabled is not None and service.binary == services.COMPUTE:
        for node in nodes:
            _mark(cloud, node.report.uuid, disabled)
    return changed


def remove_service(cloud: Cloud, ctx: Context, cell_id: int, service: Service) -> None:
    """Remove the service, and with it a compute host: nodes, providers, memberships in aggregates, host mapping, and
    its deferred clean-ups.

    First what is global, then the cell's rows; repeated after being killed between the two, it finds less to do.
    Raises Conflict while instances live on the host, or anything is allocated from it.
    """
    cell = cloud.cells.open(cell_id)
    if service.leaving:
        raise Conflict(reason=f"Host {service.host} is on its way to another cell.")
    if service.binary == services.COMPUTE:
        with cell.db.connect(ctx.deadline) as tx:
            nodes = compute_nodes.list_all(tx, host=service.host)
            living = instances.count_by_host(tx).get(service.host, 0)
        if living:
            raise Conflict(
                reason="Unable to delete compute service that is hosting instances. "
                "Migrate or delete the instances first."
            )
        cloud.db.run(lambda tx: _forget_host(tx, service.host, nodes, cloud))

    def work(tx: Connection) -> None:
        if service.binary == services.COMPUTE:
            for node in compute_nodes.list_all(tx, host=service.host):
                compute_nodes.remove(tx, node.report.uuid)
        services.remove(tx, service.uuid)  # before its operations end: nothing is recorded for it afterwards
        if service.binary == services.COMPUTE:
            operations.forgive(tx, service.host, cloud.clock.now())

    cell.db.run(work, ctx.deadline)


def _also_in(cloud: Cloud, service: Service) -> set[int]:
    """The two cells that have the service's row while its host is on its way from one to the other."""
    if not service.leaving:
        return set()
    with cloud.db.connect() as tx:
        move = host_moves.get(tx, service.host)
    return set() if move is None else {move.source_cell, move.target_cell}


def demand_host(cloud: Cloud, host: str) -> int:
    """The id of the cell that the compute host is in. Raises ComputeHostNotFound."""
    try:
        with cloud.db.connect() as tx:
            return host_mappings.get(tx, host).cell_id
    except HostMappingNotFound as error:
        raise ComputeHostNotFound(host=host) from error


def instances_on(cloud: Cloud, ctx: Context, hosts: list[str]) -> int:
    """How many instances live on these hosts. Raises CellUnavailable when one of their cells does not answer."""
    with cloud.db.connect() as tx:
        where = {mapping.host: mapping.cell_id for mapping in host_mappings.of_hosts(tx, hosts)}
    living = 0
    for cell_id in sorted(set(where.values())):
        with cloud.cells.open(cell_id).db.connect(ctx.deadline) as tx:
            counts = instances.count_by_host(tx)
        living += sum(counts.get(host, 0) for host in hosts if where.get(host) == cell_id)
    return living


def _mark(cloud: Cloud, provider_uuid: str, disabled: bool) -> None:
    """Give the provider the trait exactly when it is disabled. No provider yet: its agent sets the trait when it makes
    one."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return cloud.db.run(lambda tx: _mark_once(tx, provider_uuid, disabled, cloud))
        except GenerationConflict:
            if attempt == _ATTEMPTS:
                raise
    return None


def _mark_once(tx: Connection, provider_uuid: str, disabled: bool, cloud: Cloud) -> None:
    try:
        provider = providers.get(tx, provider_uuid)
    except ResourceProviderNotFound:
        return
    have = set(traits.of_provider(tx, provider.id))
    wanted = have | {DISABLED_TRAIT} if disabled else have - {DISABLED_TRAIT}
    if wanted != have:
        traits.put(tx, provider, wanted, provider.generation, cloud.clock.now())


def _forget_host(tx: Connection, host: str, nodes: list[ComputeNode], cloud: Cloud) -> None:
    now = cloud.clock.now()
    for uuid in [node.report.uuid for node in nodes]:
        try:
            providers.remove(tx, providers.get(tx, uuid), now)
        except ResourceProviderNotFound:
            continue
    for aggregate in aggregates.every(tx):
        if host in aggregate.hosts:
            aggregates.remove_host(tx, aggregate.id, host, now)
    try:
        host_mappings.remove(tx, host)
    except HostMappingNotFound:
        return
