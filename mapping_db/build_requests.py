"""Rows of `build_requests`: instances that were accepted and are in no cell yet.

The delete of the row settles the race of build and delete. A super-conductor works on a row under a lease; the lease,
the selection and the delete are each set by compare-and-set. The guest's password is sealed, and goes with the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, bindparam, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy import insert as sql_insert

from cell_service.db.sql.prepared import Prepared
from cell_service.model.instance import Instance
from cell_service.model.operation import BuildArguments
from cell_service.model.request_spec import Selection
from mapping_db.schema import build_requests

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One row. `attempt`: how often a super-conductor has claimed it. `sealed`: the guest's password, sealed.
    `revision`: how often a client has changed the instance since it was accepted."""

    instance_uuid: str
    project_id: str
    created_at: datetime
    request_id: str
    instance: Instance
    build: BuildArguments
    delete_requested: bool = False
    attempt: int = 0
    owner: str | None = None
    lease_until: datetime | None = None
    sealed: str | None = field(default=None, repr=False)
    revision: int = 0

    def chosen(self, selection: Selection) -> ChosenBuildRequest:
        """The request with the host that is claimed for it."""
        return ChosenBuildRequest(*(getattr(self, name) for name in _FIELDS), selection=selection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenBuildRequest(BuildRequest):
    """A request for which a host is chosen and claimed; in cell0, without a host, when there was none."""

    selection: Selection


_FIELDS = tuple(BuildRequest.__dataclass_fields__)
_COLUMNS = [*(build_requests.c[name] for name in _FIELDS), build_requests.c.selection]
_BY_UUID = select(*_COLUMNS).where(build_requests.c.instance_uuid == bindparam("uuid"))
_BY_UUIDS = select(*_COLUMNS).where(build_requests.c.instance_uuid.in_(bindparam("uuids", expanding=True)))


def insert_new(tx: Connection, requests: Iterable[BuildRequest]) -> None:
    rows = [{name: getattr(request, name) for name in _FIELDS} for request in requests]
    if rows:
        tx.execute(sql_insert(build_requests), rows)


def get(tx: Connection, instance_uuid: str) -> BuildRequest | None:
    """The build request; None when there is none (any more)."""
    row = tx.execute(_BY_UUID, {"uuid": instance_uuid}).one_or_none()
    return None if row is None else _request(row)


def get_many(tx: Connection, instance_uuids: Iterable[str]) -> dict[str, BuildRequest]:
    """Those of the build requests that are there, by instance uuid."""
    wanted = list(instance_uuids)
    found: dict[str, BuildRequest] = {}
    for start in range(0, len(wanted), _CHUNK):
        for row in tx.execute(_BY_UUIDS, {"uuids": wanted[start : start + _CHUNK]}):
            found[row.instance_uuid] = _request(row)
    return found


def of_project(tx: Connection, project_id: str | None, *, limit: int | None = None) -> list[BuildRequest]:
    """The build requests of a project (None: of all), newest first, without those whose delete was requested."""
    statement = select(*_COLUMNS).where(build_requests.c.delete_requested.is_(False))
    if project_id is not None:
        statement = statement.where(build_requests.c.project_id == project_id)
    statement = statement.order_by(build_requests.c.created_at.desc(), build_requests.c.instance_uuid.desc())
    return [_request(row) for row in tx.execute(statement.limit(limit))]


def take(
    tx: Connection, instance_uuids: Iterable[str], *, owner: str, now: datetime, lease_seconds: float
) -> list[BuildRequest]:
    """Claim for `owner` those of the requests that exist and have no lease, in the order given.

    Their rows are locked before they are claimed, so that each is claimed by one.
    """
    wanted = list(dict.fromkeys(instance_uuids))
    until = now + timedelta(seconds=lease_seconds)
    taken: dict[str, BuildRequest] = {}
    for start in range(0, len(wanted), _CHUNK):
        mine = build_requests.c.instance_uuid.in_(wanted[start : start + _CHUNK])
        rows = tx.execute(select(*_COLUMNS).where(mine, _unleased(now)).with_for_update()).all()
        found = [_request(row) for row in rows]
        if found:
            claimed = build_requests.c.instance_uuid.in_([each.instance_uuid for each in found])
            values = {"owner": owner, "lease_until": until, "attempt": build_requests.c.attempt + 1}
            tx.execute(update(build_requests).where(claimed).values(values))
        for each in found:
            taken[each.instance_uuid] = replace(each, owner=owner, lease_until=until, attempt=each.attempt + 1)
    return [taken[uuid] for uuid in wanted if uuid in taken]


def renew(tx: Connection, instance_uuid: str, *, owner: str, now: datetime, lease_seconds: float) -> bool:
    """Renew the lease. False: it is no longer the owner's."""
    until = now + timedelta(seconds=lease_seconds)
    return _change(tx, instance_uuid, build_requests.c.owner == owner, lease_until=until)


def release(tx: Connection, instance_uuid: str, *, owner: str) -> bool:
    """End the lease, so that the request may be claimed at once. False: it was no longer the owner's."""
    return _change(tx, instance_uuid, build_requests.c.owner == owner, owner=None, lease_until=None)


def untaken(tx: Connection, now: datetime, limit: int) -> list[str]:
    """The uuids of the oldest requests without a lease."""
    return [row[0] for row in _UNTAKEN.rows(tx, {"now": now, "most": limit})]


def set_selection(tx: Connection, instance_uuid: str, selection: Selection, *, owner: str) -> bool:
    """Record the host that was chosen and claimed, in the transaction of the claim.

    False: another super-conductor has the lease by now, a host was chosen already, or the request is gone; the claim
    must not be committed then.
    """
    mine = (build_requests.c.owner == owner) & build_requests.c.selection.is_(None)
    return _change(tx, instance_uuid, mine, selection=selection)


def reselect(tx: Connection, request: ChosenBuildRequest, selection: Selection, *, owner: str) -> bool:
    """Replace the request's selection, in the transaction that changes the claim.

    False: another super-conductor has the lease by now, a delete was requested, or the request is gone; the claim must
    not be changed then.
    """
    mine = (build_requests.c.owner == owner) & build_requests.c.delete_requested.is_(False)
    return _change(tx, request.instance_uuid, mine & (build_requests.c.attempt == request.attempt), selection=selection)


def request_delete(tx: Connection, instance_uuid: str) -> bool:
    """Record that the super-conductor which builds it is to delete it. True for the first caller; False: requested
    before, or gone."""
    return _change(tx, instance_uuid, build_requests.c.delete_requested.is_(False), delete_requested=True)


def delete(
    tx: Connection, instance_uuid: str, *, delete_requested: bool | None = None, unselected: bool = False
) -> bool:
    """Remove the row, if a delete was (or was not) requested as expected, and with `unselected` only
    when no host was chosen yet. True for the one caller that did it."""
    conditions: list[ColumnElement[bool]] = [build_requests.c.instance_uuid == instance_uuid]
    if delete_requested is not None:
        conditions.append(build_requests.c.delete_requested.is_(delete_requested))
    if unselected:
        conditions.append(build_requests.c.selection.is_(None))
    return bool(tx.execute(sql_delete(build_requests).where(*conditions)).rowcount)


@dataclass(frozen=True, slots=True)
class Ended:
    """The uuids of requests whose rows are removed, and of those that stay: a delete was requested, or the instance was
    changed since it was read."""

    ended: list[str]
    unwanted: list[str]
    changed: list[str]


def end_many(tx: Connection, requests: Collection[BuildRequest]) -> Ended:
    """Remove those of the rows that are as they were read, and for which no delete was requested."""
    revisions = {each.instance_uuid: each.revision for each in requests}
    columns = (build_requests.c.instance_uuid, build_requests.c.delete_requested, build_requests.c.revision)
    locked = select(*columns).where(build_requests.c.instance_uuid.in_(list(revisions))).with_for_update()
    found = {row[0]: (bool(row[1]), row[2]) for row in tx.execute(locked)}
    ended = [uuid for uuid, revision in revisions.items() if found.get(uuid) == (False, revision)]
    if ended:
        tx.execute(sql_delete(build_requests).where(build_requests.c.instance_uuid.in_(ended)))
    unwanted = [uuid for uuid in revisions if uuid in found and found[uuid][0]]
    return Ended(ended, unwanted, [uuid for uuid in revisions if uuid in found and uuid not in {*ended, *unwanted}])


def change_instance(tx: Connection, instance_uuid: str, change: Callable[[BuildRequest], Instance]) -> bool:
    """Replace the instance by what `change` makes of the request, whose row is locked. False when there is none (any
    more)."""
    row = tx.execute(_BY_UUID.with_for_update(), {"uuid": instance_uuid}).one_or_none()
    if row is None:
        return False
    changed = change(_request(row))
    statement = update(build_requests).where(build_requests.c.instance_uuid == instance_uuid)
    tx.execute(statement.values(instance=changed, revision=build_requests.c.revision + 1))
    return True


def seal_password(tx: Connection, request: BuildRequest, *, owner: str) -> bool:
    """Replace the row's arguments and sealed password by the request's. False: the row is no longer the owner's."""
    mine = build_requests.c.owner == owner
    return _change(tx, request.instance_uuid, mine, build=request.build, sealed=request.sealed)


def _request(row: Row[Any]) -> BuildRequest:
    fields: tuple[Any, ...] = tuple(row)
    request, selection = BuildRequest(*fields[:-1]), fields[-1]
    return request if selection is None else request.chosen(selection)


def _unleased(now: datetime | ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(build_requests.c.lease_until.is_(None), build_requests.c.lease_until < now)


_UNTAKEN = Prepared(
    select(build_requests.c.instance_uuid)
    .where(_unleased(bindparam("now")))
    .order_by(build_requests.c.created_at)
    .limit(bindparam("most", type_=Integer))
)


def _change(tx: Connection, instance_uuid: str, condition: ColumnElement[bool], **values: object) -> bool:
    statement = update(build_requests).where(build_requests.c.instance_uuid == instance_uuid, condition)
    return bool(tx.execute(statement.values(**values)).rowcount)
