"""The decision over each guest that a host reports.

A guest is destroyed only on evidence that it does not belong on the host: its instance is deleted, or lives elsewhere
and no move or operation under way names the host. Rows in transit prove nothing: their host may be changing cells. Nor
do rows that are older than the cell's claim on its database, which was restored then: the instance may have moved since
they were saved, so that only a move after the claim shows that the guest has no business on the host.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from cell_service.context import Context
from cell_service.db import identity, operations, server_migrations
from cell_service.logs import about
from cell_service.model.instance import Instance
from cell_service.model.lifecycle import Task, VmState
from cell_service.model.migration import ENDED, EVACUATION, Migration
from cell_service.operations.table import declared
from cell_service.rpc.conductor import GuestReport

log = logging.getLogger(__name__)

KEEP, DESTROY, QUARANTINE = "keep", "destroy", "quarantine"
_ARRIVED = frozenset({"confirmed", "completed", "done"})


@dataclass(frozen=True, slots=True)
class Claims:
    """Facts about instances besides their rows, by uuid: `busy` have work for the host (other than clean-up there),
    `failed` are those whose build failed, `moving` have a move under way, `last` is each one's newest move.
    `claimed_at`: since when the cell has its database."""

    busy: frozenset[str]
    failed: frozenset[str]
    moving: Mapping[str, Migration]
    last: Mapping[str, Migration]
    claimed_at: datetime | None = None


def claims_on(tx: Connection, host: str, known: Mapping[str, Instance]) -> Claims:
    """The facts for and against guests of these instances on the host."""
    elsewhere = [uuid for uuid, instance in known.items() if instance.host != host or instance.hidden]
    busy = {
        uuid
        for uuid in elsewhere
        if any(work.host == host and not declared(work).removes_leftovers for work in operations.unfinished(tx, uuid))
    }
    failed = {uuid for uuid, one in known.items() if _never_was(one) and not operations.unfinished(tx, uuid)}
    moving = server_migrations.unfinished_of(tx, known)
    last = server_migrations.newest_of(tx, elsewhere)
    claimed_at = identity.claimed_at(tx) if elsewhere or failed else None
    return Claims(frozenset(busy), frozenset(failed), moving, last, claimed_at)


def judge(ctx: Context, host: str, guest: GuestReport, instance: Instance | None, claims: Claims) -> str:
    """KEEP, DESTROY, or QUARANTINE: turn it off and leave it so."""
    if instance is None:
        log.info("unknown guest kept", extra=about(ctx, host=host, instance=guest.instance_uuid))
        return KEEP
    decision = _decide(host, instance, claims)
    if decision == DESTROY and _is_restored(instance, claims):
        log.warning(
            "guest kept, as its instance's row is from before the database was restored",
            extra=about(ctx, host=host, instance=instance.uuid, lives_on=instance.host),
        )
        return KEEP
    if decision != KEEP:
        log.warning(
            "guest has no business here" if decision == DESTROY else "guest is being evacuated from here",
            extra=about(
                ctx, host=host, instance=instance.uuid, lives_on=instance.host, deleted=instance.deleted_at,
                hidden=instance.hidden,
            ),
        )  # fmt: skip
    return decision


def _decide(host: str, instance: Instance, claims: Claims) -> str:
    if instance.deleted_at is not None and not instance.hidden:
        return DESTROY
    moving = claims.moving.get(instance.uuid)
    if moving is not None and flees(moving, host):
        return QUARANTINE
    if instance.task_state is Task.UNSHELVING:  # it may have just been made here, and belongs to no host yet
        return KEEP
    if instance.uuid in claims.busy or (moving is not None and host in (moving.source_compute, moving.dest_compute)):
        return KEEP
    if instance.hidden:
        return DESTROY if _has_left(claims.last.get(instance.uuid), host) else KEEP
    return KEEP if instance.host == host and instance.uuid not in claims.failed else DESTROY


def _is_restored(instance: Instance, claims: Claims) -> bool:
    """Whether all that is known of a living instance's host may be older than where its guest is."""
    since, last = claims.claimed_at, claims.last.get(instance.uuid)
    if since is None or instance.deleted_at is not None or instance.created_at > since:
        return False
    return last is None or (last.updated_at or last.created_at) <= since


def flees(migration: Migration, host: str) -> bool:
    """Whether the instance is being evacuated from the host, so that its guest must not run there any more."""
    return migration.migration_type == EVACUATION and migration.source_compute == host != migration.dest_compute


def _has_left(last: Migration | None, host: str) -> bool:
    """Whether the newest move took the instance away from the host for good."""
    if last is None or last.status not in ENDED:
        return False
    return last.status in _ARRIVED and last.source_compute == host != last.dest_compute


def _never_was(instance: Instance) -> bool:
    """Whether the instance's build failed for good, so that whatever a host has of it is to be removed."""
    return instance.vm_state is VmState.ERROR and instance.launched_at is None
