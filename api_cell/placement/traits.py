"""Traits, and which of them a provider has."""

from __future__ import annotations

import re

from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field
from api_cell.placement import query
from api_cell.placement.answer import dated
from api_cell.placement.providers import plain
from cell_service.errors import BadQuery, Invalid, TraitNotFound
from mapping_db.placement import providers, traits

_CUSTOM = re.compile(r"^CUSTOM_[A-Z0-9_]+$")
_LIST: query.Parameters = (Field("name", query.ONCE), Field("associated", query.ONCE))


def index(req: Request) -> Response:
    """200 {"traits": [...]}; `name=in:A,B` or `name=startswith:P`, `associated=true|false`."""
    query.only(req, _LIST)
    starting, among = "", None
    if (text := req.one("name")) is not None:
        operator, _, value = text.partition(":")
        if operator == "startswith" and value:
            starting = value
        elif operator == "in" and value:
            among = value.split(",")
        else:
            raise BadQuery(
                reason="Badly formatted name parameter. Expected name query string parameter in form: "
                f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{text}"'
            )
    flag = (req.one("associated") or "").lower()
    if "associated" in req.query and flag not in ("true", "false"):
        raise BadQuery(reason='The query parameter "associated" only accepts "true" or "false"')
    with req.cloud.db.connect() as tx:
        found = traits.names(tx, starting=starting, among=among)
        if flag:
            borne = traits.associated(tx)
            found = [name for name in found if (name in borne) == (flag == "true")]
    return dated(req, {"traits": found})


def show(req: Request) -> Response:
    """204 when the trait exists, 404 when not."""
    with req.cloud.db.connect() as tx:
        _find(traits.unknown(tx, [req.params["name"]]))
    return dated(req, None, status=204)


def update(req: Request) -> Response:
    """201 created, 204 when it was there already; custom names only."""
    name = req.params["name"]
    if not _CUSTOM.match(name) or len(name) > 255:
        raise Invalid(
            reason="The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    made = req.cloud.db.run(lambda tx: traits.add(tx, name))
    answer = dated(req, None, status=201 if made else 204)
    return Response(answer.status, None, {**answer.headers, "Location": f"{req.base_url}/traits/{name}"})


def delete(req: Request) -> Response:
    """204; 400 for a standard trait, 409 while a provider has it."""
    req.cloud.db.run(lambda tx: traits.remove(tx, req.params["name"]))
    return Response(204)


def show_for_provider(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        provider = providers.get(tx, plain(req.params["uuid"]))
        have = traits.of_provider(tx, provider.id)
    return dated(req, {"traits": have, "resource_provider_generation": provider.generation}, [provider.updated_at])


def put_for_provider(req: Request) -> Response:
    """200 with all of the provider's traits; 400 for one that does not exist, 409 when the generation is old."""
    wanted, generation = set(req.body["traits"]), req.body["resource_provider_generation"]
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    advanced = req.cloud.db.run(lambda tx: traits.put(tx, providers.get(tx, requested_uuid), wanted, generation, now))
    return dated(req, {"traits": sorted(wanted), "resource_provider_generation": advanced}, [now])


def delete_for_provider(req: Request) -> Response:
    """204: the provider has none."""
    now, requested_uuid = req.cloud.clock.now(), plain(req.params["uuid"])
    req.cloud.db.run(lambda tx: traits.put(tx, providers.get(tx, requested_uuid), (), None, now))
    return Response(204)


def _find(strange: list[str]) -> None:
    if strange:
        raise TraitNotFound(names=", ".join(strange))
