"""A project's usage by resource class, where the class is limited: rows `class:NAME` of `quota_usages`, of projects
only.

The first server that is accepted under such limits and uses the class makes its row, with what all the project's
servers use then. From then on each transaction that changes what a server counts for changes the row too. Without a
row nothing is counted, and nothing is lost by that: the amounts can be computed from the request specs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256

from sqlalchemy import Connection, exists, select

from cell_service.errors import InstanceMappingNotFound
from cell_service.model import demand
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec
from mapping_db import instance_mappings as mapping_rows
from mapping_db import moves as move_rows
from mapping_db import quotas
from mapping_db.instance_mappings import InstanceMapping
from mapping_db.moves import Move
from mapping_db.schema import instance_mappings, quota_usages, request_specs

PREFIX = "class:"
_LONGEST = 64
"""The length of a name in `quota_usages`, in characters."""


def row_name(resource: str) -> str:
    """The name of the row for a resource, shortened to what the column takes."""
    if len(resource) <= _LONGEST:
        return resource
    return f"{resource[:31]}-{sha256(resource.encode()).hexdigest()[:32]}"


def of_flavor(flavor: Flavor, *, volume_backed: bool, count: int = 1) -> dict[str, int]:
    """The usage of that many servers of the flavor, by the names of the rows."""
    requested = demand.of_flavor(flavor, volume_backed=volume_backed)
    return {row_name(f"{PREFIX}{name}"): count * amount for name, amount in requested.items()}


def of_sizes(vcpus: int, memory_mib: int) -> dict[str, int]:
    """The usage of a server of these sizes, when nothing else is known of it."""
    return {f"{PREFIX}VCPU": vcpus, f"{PREFIX}MEMORY_MB": memory_mib}


def of_server(mapping: InstanceMapping, spec: RequestSpec | None, move: Move | None) -> dict[str, int]:
    """The server's amounts by class: during a resize the greater of both flavors' for each class. Without a request
    spec (a server that was made elsewhere) they come from its mapping."""
    if spec is None:
        return of_sizes(mapping.vcpus, mapping.memory_mb)
    flavors = [spec.flavor]
    if move is not None and move.plan.old_flavor is not None and move.plan.new_flavor is not None:
        flavors = [move.plan.old_flavor, move.plan.new_flavor]
    return greatest(*(of_flavor(flavor, volume_backed=spec.volume_backed) for flavor in flavors))


def greatest(*many: Mapping[str, int]) -> dict[str, int]:
    """The largest amount of each class in any of them."""
    return {name: max(each.get(name, 0) for each in many) for each in many for name in each}


def above(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The amounts by which `one` exceeds `other`, for the classes in which it does."""
    return {name: amount - other.get(name, 0) for name, amount in one.items() if amount > other.get(name, 0)}


def reserve(
    tx: Connection,
    project_id: str,
    user_id: str,
    deltas: Mapping[str, int],
    classes: Mapping[str, int],
    limits: Mapping[str, int],
    before: Mapping[str, Mapping[str, int]],
) -> None:
    """Count `deltas` as `quotas.reserve` does, and `classes` against their limits; all of it or nothing.

    `before`: what the servers concerned count for already, by uuid. The project's rows of `deltas` decide: every
    transaction that changes what servers count for locks them. Raises OverQuota.
    """
    quotas.reserve(tx, project_id, user_id, deltas, limits)
    used = _claimed(tx, project_id, classes, before)
    short = [name for name, delta in classes.items() if 0 <= limits.get(name, -1) < used[name] + delta and delta > 0]
    if short:
        raise quotas.over_quota(short, classes, used, limits)
    quotas.change(tx, project_id, quotas.PROJECT, classes)


def used_by(tx: Connection, project_id: str, names: Collection[str]) -> dict[str, int]:
    """The present usage of the project's servers, by these names."""
    found = _rows(tx, project_id, names)
    missing = [name for name in names if name not in found]
    status = _status(tx, project_id, {}, lock=False) if missing else {}
    return {name: found.get(name, status.get(name, 0)) for name in names}


def leaving(tx: Connection, instance_uuid: str) -> tuple[InstanceMapping, RequestSpec | None]:
    """The mapping, and the request spec if its classes are counted. Call it after the mapping was marked: a transaction
    that begins to count a class waits for that. Raises InstanceMappingNotFound."""
    row = tx.execute(_LEAVING.where(instance_mappings.c.instance_uuid == instance_uuid)).one_or_none()
    if row is None:
        raise InstanceMappingNotFound(instance_uuid=instance_uuid)
    return InstanceMapping(*row[:-1]), row[-1]


_COUNTED = exists().where(
    quota_usages.c.project_id == instance_mappings.c.project_id,
    quota_usages.c.user_id == quotas.PROJECT,
    quota_usages.c.resource.startswith(PREFIX),
)
_SPEC = select(request_specs.c.spec).where(request_specs.c.instance_uuid == instance_mappings.c.instance_uuid, _COUNTED)
_LEAVING = select(
    *[instance_mappings.c[name] for name in InstanceMapping.__dataclass_fields__],
    _SPEC.correlate(instance_mappings).scalar_subquery(),
)


def _claimed(
    tx: Connection, project_id: str, names: Collection[str], before: Mapping[str, Mapping[str, int]]
) -> dict[str, int]:
    """The usage of each class, its row locked; missing rows are made."""
    found = _rows(tx, project_id, names, lock=True)
    missing = sorted(name for name in names if name not in found)
    if not missing:
        return found
    status = _status(tx, project_id, before, lock=True)
    for name in missing:
        row = {"project_id": project_id, "user_id": quotas.PROJECT, "resource": name, "in_use": status.get(name, 0)}
        tx.execute(quotas.insert_unless_there(tx, quota_usages, row))
    return _rows(tx, project_id, names, lock=True)


def _rows(tx: Connection, project_id: str, names: Collection[str], *, lock: bool = False) -> dict[str, int]:
    query = select(quota_usages.c.resource, quota_usages.c.in_use).where(
        quota_usages.c.project_id == project_id,
        quota_usages.c.user_id == quotas.PROJECT,
        quota_usages.c.resource.in_(sorted(names)),
    )
    return {row.resource: row.in_use for row in tx.execute(query.with_for_update() if lock else query)}


def _status(
    tx: Connection, project_id: str, before: Mapping[str, Mapping[str, int]], *, lock: bool
) -> Mapping[str, int]:
    """The amounts of all living servers of the project; those in `before` count as it says. With `lock` no server is
    marked as deleted, and none changes its amounts, before the transaction ends."""
    mappings = mapping_rows.living_of(tx, project_id, lock=lock)
    specs = dict(_specs(tx, project_id))
    moving = {move.instance_uuid: move for move in move_rows.active_in(tx, project_id)}
    sums: Counter[str] = Counter()
    for each in mappings:
        uuid = each.instance_uuid
        sums.update(before[uuid] if uuid in before else of_server(each, specs.get(uuid), moving.get(uuid)))
    return sums


def _specs(tx: Connection, project_id: str) -> Iterator[tuple[str, RequestSpec]]:
    table = instance_mappings
    query = select(request_specs.c.instance_uuid, request_specs.c.spec).join(
        table, table.c.instance_uuid == request_specs.c.instance_uuid
    )
    living = (table.c.project_id == project_id, table.c.gone.is_(False), table.c.queued_for_delete.is_(False))
    for row in tx.execute(query.where(*living)):
        yield row.instance_uuid, row.spec
