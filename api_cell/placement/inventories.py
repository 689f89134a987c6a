"""A provider's inventories and usages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.route import Request, Response, Version
from api_cell.placement import behaviours
from api_cell.placement.answer import dated
from api_cell.placement.providers import plain
from cell_service.errors import Invalid, InventoryNotFound, NotFound
from mapping_db.placement import inventories, providers, usages
from mapping_db.placement.inventories import MAX, Inventory
from mapping_db.placement.providers import Provider

CLASS_NAME = re.compile("[A-Z0-9_]+")


def inventory_from(body: Mapping[str, Any], version: Version, uuid: str, name: str, verb: str = "update") -> Inventory:
    """The inventory of that class for the provider of that uuid. Raises Invalid when more is reserved than may be, or
    the allocation ratio is not positive."""
    inventory = Inventory(
        total=body["total"],
        reserved=body.get("reserved", 0),
        min_unit=body.get("min_unit", 1),
        max_unit=body.get("max_unit", MAX),
        step_size=body.get("step_size", 1),
        allocation_ratio=float(body.get("allocation_ratio", 1.0)),
    )
    most = inventory.total if behaviours.INVENTORIES_RESERVED_IN_FULL.at(version) else inventory.total - 1
    if inventory.reserved > most or inventory.allocation_ratio <= 0:
        more = "greater than" if most == inventory.total else "greater than or equal to"
        why = f"The reserved value is {more} total." if inventory.reserved > most else "The ratio is not positive."
        raise Invalid(
            reason=f"Unable to {verb} inventory for resource provider {uuid}: Invalid inventory for '{name}' on "
            f"resource provider '{uuid}'. {why}"
        )
    return inventory


def inventories_from(bodies: Mapping[str, Any], version: Version, uuid: str) -> dict[str, Inventory]:
    """The inventory of each class for the provider of that uuid. Raises Invalid also for a name that no class can have:
    the published schema does not look at what is under such a name."""
    strange = [name for name in bodies if not CLASS_NAME.fullmatch(name)]
    if strange:
        raise Invalid(reason=f"Unknown resource class in {', '.join(strange)[:255]}.")
    return {name: inventory_from(body, version, uuid, name) for name, body in bodies.items()}


def inventory_view(inventory: Inventory) -> dict[str, Any]:
    return {
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.allocation_ratio,
    }


def index(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        have = inventories.of_provider(tx, provider.id)
    return _all(req, provider.generation, have)


def replace(req: Request) -> Response:
    """200 with all of them; 409 when the generation is old, or a class that goes is in use."""
    wanted = inventories_from(req.body["inventories"], req.version, req.params["uuid"])
    generation = req.body["resource_provider_generation"]
    advanced = _changed(req, lambda tx, provider: inventories.put(tx, provider, wanted, generation, _now(req)))
    return _all(req, advanced, wanted)


def create(req: Request) -> Response:
    """201 with the one inventory."""
    name = req.body["resource_class"]
    wanted = inventory_from(req.body, req.version, req.params["uuid"], name, "create")
    generation = req.body.get("resource_provider_generation")
    advanced = _changed(req, lambda tx, provider: inventories.add(tx, provider, name, wanted, generation, _now(req)))
    answer = _one(req, advanced, wanted, 201)
    location = f"{req.base_url}/resource_providers/{req.params['uuid']}/inventories/{name}"
    return Response(201, answer.body, {**answer.headers, "Location": location})


def delete_all(req: Request) -> Response:
    """204; 409 while any of it is in use."""
    _changed(req, lambda tx, provider: inventories.put(tx, provider, {}, None, _now(req)))
    return Response(204)


def show(req: Request) -> Response:
    name = req.params["resource_class"]
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        found = inventories.of_provider(tx, provider.id).get(name)
    if found is None:
        raise InventoryNotFound(resource_class=name, uuid=provider.uuid)
    return _one(req, provider.generation, found)


def update(req: Request) -> Response:
    name = req.params["resource_class"]
    wanted = inventory_from(req.body, req.version, req.params["uuid"], name)
    generation = req.body.get("resource_provider_generation")
    advanced = _changed(req, lambda tx, provider: inventories.change(tx, provider, name, wanted, generation, _now(req)))
    return _one(req, advanced, wanted)


def delete(req: Request) -> Response:
    """204; 404 when there is none, 409 while it is in use."""
    name = req.params["resource_class"]

    def work(tx: Connection, provider: Provider) -> int:
        try:
            inventories.remove(tx, provider, name, _now(req))
        except InventoryNotFound:
            found = f"No inventory of class {name} found"
            raise NotFound(reason=f"{found} for delete: {found}.") from None
        return 0

    _changed(req, work)
    return Response(204)


def show_usages(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        used = usages.of_provider(tx, provider.id)
    return dated(req, {"resource_provider_generation": provider.generation, "usages": used})


def _changed(req: Request, work: Callable[[Connection, Provider], int]) -> int:
    requested_uuid = plain(req.params["uuid"])
    return req.cloud.db.run(lambda tx: work(tx, providers.get(tx, requested_uuid)))


def _now(req: Request) -> Any:
    return req.cloud.clock.now()


def _all(req: Request, generation: int, have: Mapping[str, Inventory]) -> Response:
    views = {name: inventory_view(inventory) for name, inventory in have.items()}
    return dated(req, {"resource_provider_generation": generation, "inventories": views})


def _one(req: Request, generation: int, inventory: Inventory, status: int = 200) -> Response:
    return dated(req, {"resource_provider_generation": generation, **inventory_view(inventory)}, status=status)
