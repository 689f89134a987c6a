"""Resource providers and their aggregates."""

from __future__ import annotations

import uuid
from uuid import UUID

from api_cell.edge.route import Request, Response
from api_cell.placement import query
from api_cell.placement.answer import dated, provider_view
from cell_service.errors import ResourceProviderNotFound
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
        resource_classes.demand(tx, wanted.resources)
        traits.demand(tx, wanted.forbidden.union(*wanted.required))
        found = search.matching(tx, wanted)
    views = [provider_view(req, provider) for provider in found]
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
    if not req.at_least(1, 20):
        return Response(201, None, location)
    answer = dated(req, provider_view(req, made), [made.updated_at])
    return Response(200, answer.body, {**answer.headers, **location})


def show(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
    return dated(req, provider_view(req, provider), [provider.updated_at])


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
        changed = providers.alter(tx, provider, req.body["name"], parent, now, reparent=req.at_least(1, 37))
    return dated(req, provider_view(req, changed), [changed.updated_at])


def delete(req: Request) -> Response:
    """204; 409 while it has children or allocations."""
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    req.cloud.db.run(lambda tx: providers.remove(tx, providers.get(tx, requested_uuid), now))
    return Response(204)


def show_aggregates(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        inside = aggregates.of_provider(tx, provider.id)
    body: dict[str, object] = {"aggregates": inside}
    if req.at_least(1, 19):
        body["resource_provider_generation"] = provider.generation
    return dated(req, body, [provider.updated_at])


def put_aggregates(req: Request) -> Response:
    """200 {"aggregates": [...]}; from 1.19 on 409 when the generation is old."""
    guarded = req.at_least(1, 19)
    wanted = {str(UUID(text)) for text in (req.body["aggregates"] if guarded else req.body)}
    generation = req.body["resource_provider_generation"] if guarded else None
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    advanced = req.cloud.db.run(
        lambda tx: aggregates.put(tx, providers.get(tx, requested_uuid), wanted, generation, now)
    )
    body: dict[str, object] = {"aggregates": sorted(wanted)}
    if guarded:
        body["resource_provider_generation"] = advanced
    return dated(req, body, [now])
