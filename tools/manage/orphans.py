"""`placement audit`: allocations that belong to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from cell_service.errors import ResourceProviderNotFound
from mapping_db.cloud import Cloud
from mapping_db.placement import allocations, orphans, providers
from mapping_db.placement.orphans import Orphan
from tools.manage.command import Args, arg, command
from tools.manage.out import Out


@command("placement audit",
         arg("--resource_provider", metavar="UUID", help="only what this provider is used for"),
         arg("--delete", flag=True, help="delete what is found"),
         arg("--verbose", flag=True, help="say of each what it has of which provider"))  # fmt: skip
def audit(cloud: Cloud, args: Args, out: Out) -> int:
    """List allocations whose consumer is neither an instance nor a move under way, and perhaps delete them. 0 there are
    none; 3 there are some; 4 all that were found are deleted; 127 no such resource provider."""
    try:
        found = list(_orphans(cloud, args.resource_provider))
    except ResourceProviderNotFound as error:
        out.warn(str(error))
        return 127
    deleted = {orphan.consumer_uuid for orphan in found if args.delete and _deleted(cloud, orphan)}
    columns = ["Consumer", "Type", "Project", *(["Allocations"] if args.verbose else []), "Deleted"]
    out.table(
        columns,
        [
            (
                orphan.consumer_uuid,
                orphan.consumer_type or "unknown",
                orphan.project_id,
                *([_shown(orphan)] if args.verbose else []),
                orphan.consumer_uuid in deleted,
            )
            for orphan in found
        ],
    )
    if not found:
        return 0
    return 4 if len(deleted) == len(found) else 3


def _orphans(cloud: Cloud, provider_uuid: str | None) -> Iterator[Orphan]:
    """Raises ResourceProviderNotFound."""
    with cloud.db.connect() as tx:
        provider_id = providers.get(tx, provider_uuid).id if provider_uuid else None
    last = ""
    while True:
        with cloud.db.connect() as tx:
            page = orphans.consumers(tx, last, provider_id)
            lost = list(orphans.among(tx, page))
        if not page:
            return
        yield from lost
        last = page[-1]


def _deleted(cloud: Cloud, orphan: Orphan) -> bool:
    """Delete what the consumer has, if it is an orphan still."""
    now = cloud.clock.now()

    def work(tx: Connection) -> bool:
        still = list(orphans.among(tx, [orphan.consumer_uuid]))
        return not still or allocations.release(tx, orphan.consumer_uuid, now)

    return cloud.db.run(work)


def _shown(orphan: Orphan) -> str:
    return "; ".join(
        f"{uuid}: " + ", ".join(f"{name} {amount}" for name, amount in sorted(amounts.items()))
        for uuid, amounts in sorted(orphan.allocations.items())
    )
