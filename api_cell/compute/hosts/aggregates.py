"""Host aggregates, and the availability zones that some of them are."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from sqlalchemy import Connection

from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import number_of
from api_cell.edge.versioned import Field, View
from api_cell.hosts import change
from api_cell.timestamps import with_fraction
from cell_service.errors import AggregateNotFound, Conflict, Invalid
from mapping_db import aggregates as rows
from mapping_db.aggregates import ZONE, Aggregate

_VIEW: View[Aggregate] = View(
    Field("id", lambda aggregate: aggregate.id),
    Field("name", lambda aggregate: aggregate.name),
    Field("availability_zone", lambda aggregate: aggregate.availability_zone),
    Field("hosts", lambda aggregate: list(aggregate.hosts)),
    Field("metadata", lambda aggregate: dict(aggregate.metadata)),
    Field("created_at", lambda aggregate: with_fraction(aggregate.created_at)),
    Field("updated_at", lambda aggregate: with_fraction(aggregate.updated_at)),
    Field("deleted", lambda _aggregate: False),
    Field("deleted_at", lambda _aggregate: None),
    Field("uuid", lambda aggregate: aggregate.uuid, since=(2, 41)),
)


def index(req: Request) -> Response:
    """200 {"aggregates": [...]}."""
    with req.cloud.db.connect() as tx:
        found = rows.every(tx)
    return Response(200, {"aggregates": [_VIEW.at(req.version, aggregate) for aggregate in found]})


def show(req: Request) -> Response:
    """200 {"aggregate": {...}}."""
    with req.cloud.db.connect() as tx:
        return _answer(req, rows.get(tx, _id(req)))


def create(req: Request) -> Response:
    """200 {"aggregate": {...}} without hosts and metadata; 409 for a name in use."""
    given, now = req.body["aggregate"], req.cloud.clock.now()
    uuid = str(uuid4())
    made = req.cloud.db.run(lambda tx: rows.add(tx, uuid, given["name"], given.get("availability_zone"), now))
    view = _VIEW.at(req.version, made)
    return Response(200, {"aggregate": {key: view[key] for key in view if key not in ("hosts", "metadata")}})


def update(req: Request) -> Response:
    """200 {"aggregate": {...}}; 400 when instances would change their zone."""
    aggregate_id, given, now = _id(req), req.body["aggregate"], req.cloud.clock.now()
    if "availability_zone" in given:
        _demand_free_to_change(req, aggregate_id, given["availability_zone"])

    def work(tx: Connection) -> Aggregate:
        if "name" in given:
            rows.rename(tx, aggregate_id, given["name"].strip(), now)
        if "availability_zone" in given:
            rows.set_metadata(tx, aggregate_id, {ZONE: given["availability_zone"]}, now)
        return rows.get(tx, aggregate_id)

    return _answer(req, req.cloud.db.run(work))


def delete(req: Request) -> Response:
    """200; 400 while it has hosts."""
    aggregate_id, now = _id(req), req.cloud.clock.now()

    def work(tx: Connection) -> None:
        aggregate = rows.get(tx, aggregate_id)
        if aggregate.hosts:
            raise Invalid(reason=f"Cannot remove aggregate {aggregate_id}. Reason: The host aggregate is not empty.")
        rows.remove(tx, aggregate_id, now)

    req.cloud.db.run(work)
    return Response(200)


def add_host(req: Request) -> Response:
    """200 {"aggregate": {...}}; 404 for an unknown host, 409 when it would be in two zones or its instances in
    another."""
    aggregate_id, host, now = _id(req), req.body["add_host"]["host"], req.cloud.clock.now()
    with req.cloud.db.connect() as tx:
        aggregate, zones = rows.get(tx, aggregate_id), rows.zones(tx)
    change.demand_host(req.cloud, host)
    default = req.services.settings.zones.default_availability_zone
    moves = aggregate.availability_zone not in (None, zones.get(host, default))
    if moves and change.instances_on(req.cloud, req.ctx, [host]):
        raise Conflict(
            reason=f"Cannot add host {host} to aggregate {aggregate_id}. Reason: It contains instances in another "
            "availability zone."
        )
    return _change(req, lambda tx: rows.add_host(tx, aggregate_id, host, now))


def remove_host(req: Request) -> Response:
    """200 {"aggregate": {...}}; 404 when it isn't in there."""
    aggregate_id, host, now = _id(req), req.body["remove_host"]["host"], req.cloud.clock.now()
    return _change(req, lambda tx: rows.remove_host(tx, aggregate_id, host, now))


def set_metadata(req: Request) -> Response:
    """200 {"aggregate": {...}}; a null deletes its key."""
    aggregate_id, metadata, now = _id(req), req.body["set_metadata"]["metadata"], req.cloud.clock.now()
    if ZONE in metadata:
        if metadata[ZONE] is not None and (not metadata[ZONE].strip() or ":" in metadata[ZONE]):
            raise Invalid(reason=f"Invalid availability zone name {metadata[ZONE]!r}.")
        _demand_free_to_change(req, aggregate_id, metadata[ZONE])
    return _change(req, lambda tx: rows.set_metadata(tx, aggregate_id, metadata, now))


def _demand_free_to_change(req: Request, aggregate_id: int, zone: str | None) -> None:
    """Raises Invalid when hosts of the aggregate have instances, and would get another zone."""
    with req.cloud.db.connect() as tx:
        aggregate = rows.get(tx, aggregate_id)
    if zone == aggregate.availability_zone or not aggregate.hosts:
        return
    if change.instances_on(req.cloud, req.ctx, list(aggregate.hosts)):
        raise Invalid(
            reason=f"Cannot update aggregate {aggregate_id}. Reason: One or more hosts contain instances in this zone."
        )


def _change(req: Request, work: Callable[[Connection], Aggregate]) -> Response:
    return _answer(req, req.cloud.db.run(work))


def _answer(req: Request, aggregate: Aggregate) -> Response:
    return Response(200, {"aggregate": _VIEW.at(req.version, aggregate)})


def aggregate_id(req: Request) -> int:
    """The number in the path. Raises Invalid."""
    return _id(req)


def _id(req: Request) -> int:
    text = req.params["id"]
    return number_of(text, "aggregate", AggregateNotFound(aggregate_id=text[:64]))
