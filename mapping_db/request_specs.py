"""Rows of `request_specs`: what each instance requires of the scheduler, stored for its later moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from cell_service.model.request_spec import RequestSpec
from mapping_db.schema import request_specs


def insert_new(tx: Connection, specs: Iterable[RequestSpec], now: datetime) -> None:
    rows = [{"instance_uuid": spec.instance_uuid, "created_at": now, "spec": spec} for spec in specs]
    if rows:
        tx.execute(insert(request_specs), rows)


def get(tx: Connection, instance_uuid: str) -> RequestSpec | None:
    """The instance's request spec; None when there is none."""
    condition = request_specs.c.instance_uuid == instance_uuid
    found: RequestSpec | None = tx.scalar(select(request_specs.c.spec).where(condition))
    return found


def get_many(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, RequestSpec]:
    """Those of the specs that exist, by instance uuid."""
    condition = request_specs.c.instance_uuid.in_(list(instance_uuids))
    rows = tx.execute(select(request_specs.c.instance_uuid, request_specs.c.spec).where(condition))
    return {row.instance_uuid: row.spec for row in rows}


def replace(tx: Connection, spec: RequestSpec) -> bool:
    """Replace the instance's request spec (after a resize). False when it has none."""
    condition = request_specs.c.instance_uuid == spec.instance_uuid
    return bool(tx.execute(update(request_specs).where(condition).values(spec=spec)).rowcount)


def remove(tx: Connection, instance_uuids: Iterable[str]) -> int:
    """Remove the specs. Returns how many there were."""
    condition = request_specs.c.instance_uuid.in_(list(instance_uuids))
    return tx.execute(delete(request_specs).where(condition)).rowcount
