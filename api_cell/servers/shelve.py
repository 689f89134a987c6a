"""Shelving servers, and bringing them back: where they still are, or wherever there is capacity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from api_cell import cell_queries
from api_cell.caller import Caller
from api_cell.servers import act, find
from api_cell.servers.act import Doing
from api_cell.servers.moves import kinds, request
from api_cell.services import Services
from cell_service.errors import (
    ComputeHostNotFound,
    Conflict,
    InstanceNotReady,
    Invalid,
    UnshelveHostNotInZone,
    UnshelveNotOffloaded,
)
from cell_service.model import shelved
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import VmState
from cell_service.model.move import MovePlan
from cell_service.operations import shelving
from cell_service.operations.rule import begin
from mapping_db import host_mappings
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud

SHELVE = Doing(shelving.SHELVE, "os_compute_api:os-shelve:shelve")
OFFLOAD = Doing(shelving.SHELVE_OFFLOAD, "os_compute_api:os-shelve:shelve_offload")
START = Doing(shelving.UNSHELVE, "os_compute_api:os-shelve:unshelve")
HOST_RULE = "os_compute_api:os-shelve:unshelve_to_host"
CROSS_CELL_RULE = "compute:servers:resize:cross_cell"


@dataclass(frozen=True, slots=True)
class Place:
    """The place to which a server is to come back. `pins`: `zone` is what its availability zone is from then on (None:
    any)."""

    host: str | None = None
    zone: str | None = None
    pins: bool = False


def shelve(cloud: Cloud, caller: Caller, server_id: str) -> None:
    """The server will be an image. Its id is chosen and recorded now, so that there is never a second one.

    Raises InstanceNotFound, InstanceNotReady, InstanceIsLocked, InstanceInvalidState, PolicyForbidden, CellUnavailable.
    """
    image_id = str(uuid4())

    def prepare(instance: Instance) -> tuple[shelving.ShelveArguments, dict[str, Any]]:
        arguments = shelving.ShelveArguments(image_id, shelved.image_of(instance.system_metadata))
        return arguments, {"system_metadata": shelved.begun(instance.system_metadata, image_id)}

    act.begin(cloud, caller, server_id, SHELVE, prepare=prepare)


def offload(cloud: Cloud, caller: Caller, server_id: str) -> None:
    """The server will leave its host. Raises like `shelve`."""
    act.begin(cloud, caller, server_id, OFFLOAD)


def unshelve(cloud: Cloud, services: Services, caller: Caller, server_id: str, place: Place) -> None:
    """The server will run again. Raises like `shelve`; Invalid, ComputeHostNotFound for a place that is not there,
    UnshelveHostNotInZone, UnshelveNotOffloaded."""
    found = find.server(cloud, caller.ctx, server_id)
    instance = found.instance
    caller.demand(START.rule, find.target(instance))
    act.demand_unlocked(caller.ctx, instance)
    begin(START.operation, instance.state, server_id)
    if instance.vm_state is VmState.SHELVED:
        if place != Place():
            raise UnshelveNotOffloaded(instance_uuid=server_id, state=instance.vm_state.value)
        act.begin(cloud, caller, server_id, START)
    elif found.cell is None:
        raise InstanceNotReady(instance_uuid=server_id)
    else:
        _bring_back(cloud, services, caller, instance, found.cell, place)


def _bring_back(cloud: Cloud, services: Services, caller: Caller, instance: Instance, cell: Cell, place: Place) -> None:
    zone = place.zone if place.pins else instance.pinned_availability_zone
    _check(cloud, services, caller, instance, place, zone)
    image_id = shelved.image_of(instance.system_metadata)
    if image_id is None:
        raise Conflict(reason=f"The image of shelved server {instance.uuid} is not known.")
    plan = MovePlan(
        target_host=place.host,
        availability_zone=zone,
        image=image_id,
        pins=place.pins,
        pin=place.zone,
        cross_cell=place.host is not None or caller.may(CROSS_CELL_RULE),
    )
    request.accept(cloud, caller.ctx, services.superconductor, cell, instance, kinds.UNSHELVING, plan)


def _check(
    cloud: Cloud, services: Services, caller: Caller, instance: Instance, place: Place, zone: str | None
) -> None:
    usual = services.settings.zones.default_availability_zone
    zones = cell_queries.zones(cloud) if place.zone is not None or place.host is not None else {}
    if place.zone is not None and place.zone not in {usual, *zones.values()}:
        raise Invalid(reason="The requested availability zone is not available")
    if place.host is None:
        return
    caller.demand(HOST_RULE, find.target(instance))
    with cloud.db.connect() as tx:
        if not host_mappings.of_hosts(tx, [place.host]):
            raise ComputeHostNotFound(host=place.host)
    if zone is not None and zones.get(place.host, usual) != zone:
        raise UnshelveHostNotInZone(host=place.host, zone=zone)
