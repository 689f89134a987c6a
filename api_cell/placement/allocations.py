"""Consumers' allocations, in the forms that the versions know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field, View
from api_cell.placement.answer import dated
from api_cell.placement.inventories import inventories_from
from api_cell.placement.providers import plain
from cell_service.errors import (
    ConsumerNotFound,
    Invalid,
    InventoriesOfNone,
    InventoryExceeded,
    ReshapeConflict,
    ResourceProviderNotFound,
)
from mapping_db.placement import allocations, inventories, providers, resource_classes
from mapping_db.placement.allocations import ANY, Claim, Consumer
from mapping_db.placement.providers import Provider

UNKNOWN_PROJECT = UNKNOWN_USER = "00000000-0000-0000-0000-000000000000"
"""Project and user of allocations before 1.8, when requests did not name them."""

_CONSUMER: View[Consumer] = View(
    Field("project_id", attrgetter("project_id"), since=(1, 12)),
    Field("user_id", attrgetter("user_id"), since=(1, 12)),
    Field("consumer_generation", attrgetter("generation"), since=(1, 28)),
    Field("consumer_type", lambda consumer: consumer.consumer_type or "unknown", since=(1, 38)),
)
_ON_PROVIDER: View[tuple[dict[str, int], int]] = View(
    Field("resources", itemgetter(0)),
    Field("consumer_generation", itemgetter(1), since=(1, 28)),
)
"""The view of a consumer's allocations of one provider, with the consumer's generation."""


def show(req: Request) -> Response:
    """200 {"allocations": {provider: {...}}, ...}; empty when the consumer has nothing."""
    consumer_uuid = _consumer(req)
    with req.cloud.db.connect() as tx:
        consumer = allocations.of_consumer(tx, consumer_uuid)
        known = providers.by_uuids(tx, consumer.allocations) if consumer else {}
    if consumer is None:
        return dated(req, {"allocations": {}})
    views = {
        uuid: {"generation": known[uuid].generation, "resources": amounts}
        for uuid, amounts in consumer.allocations.items()
        if uuid in known
    }
    return dated(req, {"allocations": views, **_CONSUMER.at(req.version, consumer)}, [consumer.updated_at])


def show_for_provider(req: Request) -> Response:
    """200 {"allocations": {consumer: {...}}, ...}."""
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        found = allocations.on_provider(tx, provider.id)
    views = {consumer: _ON_PROVIDER.at(req.version, has) for consumer, has in found.items()}
    return dated(req, {"allocations": views, "resource_provider_generation": provider.generation})


def update(req: Request) -> Response:
    """204: the consumer has exactly this. 409 when it doesn't fit, or a generation is old."""
    claim = _claim(_consumer(req), req.body)
    _write(req, [claim])
    return Response(204)


def update_many(req: Request) -> Response:
    """204: all of the consumers have exactly this, or nothing has changed."""
    _write(req, _claims(req.body))
    return Response(204)


def delete(req: Request) -> Response:
    """204; 404 when the consumer has nothing."""
    consumer_uuid, now = _consumer(req), req.cloud.clock.now()
    if not req.cloud.db.run(lambda tx: allocations.release(tx, consumer_uuid, now)):
        raise ConsumerNotFound(uuid=consumer_uuid)
    return Response(204)


def reshape(req: Request) -> Response:
    """204: inventories and allocations are these, changed together. 409 when they don't fit each other."""
    claims = _claims(req.body["allocations"])
    wanted = {
        str(UUID(uuid)): (
            part["resource_provider_generation"],
            inventories_from(part["inventories"], req.version, uuid),
        )
        for uuid, part in req.body["inventories"].items()
    }
    now = req.cloud.clock.now()

    def work(tx: Connection) -> None:
        _demand_classes(tx, claims)
        found = {uuid: _of_inventories(tx, uuid, wanted[uuid][0]) for uuid in sorted(wanted)}
        for uuid, provider in found.items():  # first what is new, so that allocations can move there, …
            generation, after = wanted[uuid]
            if after:
                inventories.put(tx, provider, {**inventories.of_provider(tx, provider.id), **after}, generation, now)
        allocations.write(tx, claims, now, units_of_all=True)
        for uuid, provider in found.items():  # … and then what is to go
            inventories.put(tx, provider, wanted[uuid][1], None, now)

    _run(req, work)
    return Response(204)


def _of_inventories(tx: Connection, uuid: str, generation: int) -> Provider:
    """The provider, if it is still of that generation; it stays so. Raises InventoriesOfNone, ReshapeConflict."""
    try:
        provider = providers.hold(tx, uuid)
    except ResourceProviderNotFound as error:
        raise InventoriesOfNone(uuid=uuid) from error
    if provider.generation != generation:
        raise ReshapeConflict(uuid=uuid, actual=provider.generation, given=generation)
    return provider


def _consumer(req: Request) -> str:
    try:
        return str(UUID(req.params["consumer_uuid"]))
    except ValueError as error:
        raise Invalid(reason=f"Malformed consumer_uuid: {req.params['consumer_uuid']}") from error


def _claims(body: Mapping[str, Any]) -> list[Claim]:
    return [_claim(str(UUID(consumer)), one) for consumer, one in body.items()]


def _claim(consumer_uuid: str, body: Mapping[str, Any]) -> Claim:
    if isinstance(body["allocations"], list):
        where = {str(UUID(part["resource_provider"]["uuid"])): part["resources"] for part in body["allocations"]}
        if len(where) < len(body["allocations"]):
            raise Invalid(reason="A resource provider is named twice.")
    else:
        where = {str(UUID(uuid)): part["resources"] for uuid, part in body["allocations"].items()}
    return Claim(
        consumer_uuid=consumer_uuid,
        allocations=where,
        project_id=body.get("project_id", UNKNOWN_PROJECT),
        user_id=body.get("user_id", UNKNOWN_USER),
        consumer_type=body.get("consumer_type"),
        generation=body.get("consumer_generation", ANY),
    )


def _write(req: Request, claims: list[Claim]) -> None:
    now = req.cloud.clock.now()

    def work(tx: Connection) -> None:
        _demand_classes(tx, claims)
        allocations.write(tx, claims, now, units_of_all=True)

    _run(req, work)


def _run(req: Request, work: Callable[[Connection], None]) -> None:
    """Write allocations. Raises Invalid for a provider that there is not, and what `work` raises otherwise."""
    try:
        req.cloud.db.run(work)
    except ResourceProviderNotFound as error:  # 400: it is a name in the body
        raise Invalid(
            reason=f"Allocation for resource provider '{error.fields['uuid']}' that does not exist."
        ) from error
    except InventoryExceeded as error:
        error.fields.pop("providers", None)
        raise


def _demand_classes(tx: Connection, claims: list[Claim]) -> None:
    for claim in claims:
        named = {name for amounts in claim.allocations.values() for name in amounts}
        resource_classes.demand(tx, named, f"Unable to allocate inventory for consumer {claim.consumer_uuid}")
