"""Which records a caller may know of."""

from __future__ import annotations

from sqlalchemy import Connection

from cell_service.errors import Invalid
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record


def visible(tx: Connection, req: CompanionRequest, noun: str, record_id: str) -> Record:
    """The record, if the caller may know of it. Raises NotFound."""
    record = store.get(tx, noun, record_id)
    if not req.is_admin and record["project_id"] != req.caller.project_id:
        raise store.missing(noun, record_id)
    return record


def listed(tx: Connection, req: CompanionRequest, noun: str, parent_id: str | None = None) -> list[Record]:
    """The records of the caller's project, or of all where an administrator requests that; newest first."""
    everybody = req.is_admin and req.one("all_tenants", "0") in ("1", "True", "true")
    return store.search(tx, noun, project_id=None if everybody else project_of(req), parent_id=parent_id)


def project_of(req: CompanionRequest) -> str:
    """The project in the path, which only administrators choose freely."""
    named = req.params.get("project_id", req.caller.project_id)
    if named != req.caller.project_id and not req.is_admin:
        raise Invalid(reason="Malformed request url")
    return named
