"""Resource providers and their aggregates."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from operator import itemgetter
from uuid import UUID

from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field, View
from api_cell.placement import behaviours, query
from api_cell.placement.answer import dated, provider_view
from cell_service.errors import NotFound, ResourceProviderNotFound
from mapping_db.placement import aggregates, providers, resource_classes, search, traits


def plain(text: str) -> str:
    """A uuid in its usual form; text that is none can name no provider. Raises ResourceProviderNotFound."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise ResourceProviderNotFound(uuid=text) from error


def index(req: Request) -> Response:
    """200 {"resource_providers": [...]}: those that pass every filter."""
    wanted = query.provider_list(req)
    with req.cloud.db.connect() as tx:
        resource_classes.demand(tx, wanted.resources, query.UNKNOWN_CLASS)
        traits.demand(tx, wanted.forbidden.union(*wanted.required))
        found = search.matching(tx, wanted)
    views = [provider_view(req.version, provider) for provider in found]
    return dated(req, {"resource_providers": views}, (provider.updated_at for provider in found))


def create(req: Request) -> Response:
    """201 with a Location; from 1.20 on 200 with the provider. 409 when the name or uuid is taken."""
    new = req.body.get("uuid") or str(uuid.uuid4())
    parent = req.body.get("parent_provider_uuid")
    now = req.cloud.clock.now()
    made = req.cloud.db.run(
        lambda tx: providers.add(
            tx, str(UUID(new)), req.body["name"], now, parent_uuid=str(UUID(parent)) if parent else None
        )
    )
    location = {"Location": f"{req.base_url}/resource_providers/{made.uuid}"}
    if not behaviours.NEW_PROVIDERS_ARE_SHOWN.at(req.version):
        return Response(201, None, location)
    answer = dated(req, provider_view(req.version, made), [made.updated_at])
    return Response(200, answer.body, {**answer.headers, **location})


def show(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
    return dated(req, provider_view(req.version, provider), [provider.updated_at])


def update(req: Request) -> Response:
    """200 with the provider. From 1.14 a root may be given a parent; from 1.37 parents may change and go."""
    now = req.cloud.clock.now()
    requested_uuid = plain(req.params["uuid"])
    with req.cloud.db.begin() as tx:
        provider = providers.get(tx, requested_uuid)
        parent = provider.parent_uuid
        if "parent_provider_uuid" in req.body:
            parent = req.body["parent_provider_uuid"]
            parent = str(UUID(parent)) if parent else None
        reparent = behaviours.PARENTS_CHANGE.at(req.version)
        changed = providers.alter(tx, provider, req.body["name"], parent, now, reparent=reparent)
    return dated(req, provider_view(req.version, changed), [changed.updated_at])


def delete(req: Request) -> Response:
    """204; 409 while it has children or allocations."""
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    try:
        req.cloud.db.run(lambda tx: providers.remove(tx, providers.get(tx, requested_uuid), now))
    except ResourceProviderNotFound as error:
        raise NotFound(reason=f"{error.for_users()} for delete") from error
    return Response(204)


_AGGREGATES: View[tuple[list[str], int]] = View(
    Field("aggregates", itemgetter(0)),
    Field("resource_provider_generation", itemgetter(1), since=(1, 19)),
)
"""The view of a provider's aggregates, with its generation."""


def show_aggregates(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        inside = aggregates.of_provider(tx, provider.id)
    return dated(req, _AGGREGATES.at(req.version, (inside, provider.generation)), [provider.updated_at])


def replace_aggregates(req: Request) -> Response:
    """200 {"aggregates": [...]}, whatever the provider's generation."""
    return _put_aggregates(req, req.body, None)


def put_aggregates(req: Request) -> Response:
    """200 {"aggregates": [...], "resource_provider_generation": ...}; 409 when the generation is old."""
    return _put_aggregates(req, req.body["aggregates"], req.body["resource_provider_generation"])


def _put_aggregates(req: Request, given: Iterable[str], generation: int | None) -> Response:
    wanted = list(dict.fromkeys(aggregates.as_stored(text) for text in given))
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    advanced = req.cloud.db.run(
        lambda tx: aggregates.put(tx, providers.get(tx, requested_uuid), wanted, generation, now)
    )
    return dated(req, _AGGREGATES.at(req.version, (wanted, advanced)), [now])
