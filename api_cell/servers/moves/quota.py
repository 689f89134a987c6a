"""The share of a server in its project's quota while it is being resized: of each resource the greater amount of both
flavors.

Reserved when the resize is accepted, and settled once when it ends, with `active` of the move's row: until then the
row says that the server counts for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from cell_service.errors import InstanceNotFound
from cell_service.model.instance import Flavor
from cell_service.model.request_spec import RequestSpec
from mapping_db import class_usage, instance_mappings, moves, quotas, request_specs
from mapping_db.moves import Move


@dataclass(frozen=True, slots=True)
class GrowthQuota:
    """The limits for a growing server; `by_class`: also for what it claims of hosts."""

    limits: Mapping[str, int]
    user_limits: Mapping[str, int]
    by_class: bool = False


def promise(tx: Connection, move: Move, quota: GrowthQuota | None) -> None:
    """Reserve quota for what the server may become, if that is more. Raises OverQuota, InstanceNotFound."""
    old, new = move.plan.old_flavor, move.plan.new_flavor
    if old is None or new is None:
        return
    more = {"cores": max(0, new.vcpus - old.vcpus), "ram": max(0, new.memory_mib - old.memory_mib)}
    spec = request_specs.get(tx, move.instance_uuid)
    counted = _classes(spec, old)
    classes = class_usage.above(_classes(spec, new), counted)
    if not any(more.values()) and not classes:
        return
    mapping = instance_mappings.lock_row(tx, move.instance_uuid)
    if mapping.queued_for_delete:
        raise InstanceNotFound(instance_id=move.instance_uuid)
    quota = quota or GrowthQuota({}, {})
    if quota.by_class:
        before = {move.instance_uuid: counted}
        class_usage.reserve(tx, mapping.project_id, mapping.user_id, more, classes, quota.limits, before)
    else:
        quotas.reserve(tx, mapping.project_id, mapping.user_id, more, quota.limits, quota.user_limits, also=classes)
    instance_mappings.resize(tx, move.instance_uuid, mapping.vcpus + more["cores"], mapping.memory_mb + more["ram"])


def settle(tx: Connection, move: Move, *, keeps_new: bool) -> None:
    """Settle the quota: from the greater of both flavors to the one that the server has now, which its request spec
    names too. A move that is no longer active: nothing changes."""
    old, new = move.plan.old_flavor, move.plan.new_flavor
    if old is None or new is None:
        return
    mapping = instance_mappings.lock_row(tx, move.instance_uuid)
    active = moves.active_of(tx, move.instance_uuid)
    if mapping.queued_for_delete or active is None or active.uuid != move.uuid:
        return
    has = new if keeps_new else old
    back = {"cores": mapping.vcpus - has.vcpus, "ram": mapping.memory_mb - has.memory_mib}
    spec = request_specs.get(tx, move.instance_uuid)
    greatest = class_usage.greatest(_classes(spec, old), _classes(spec, new))
    back |= class_usage.above(greatest, _classes(spec, has))
    quotas.release(tx, mapping.project_id, mapping.user_id, back)
    instance_mappings.resize(tx, move.instance_uuid, has.vcpus, has.memory_mib)
    if spec is not None and spec.flavor != has:
        request_specs.replace(tx, replace(spec, flavor=has))


def _classes(spec: RequestSpec | None, flavor: Flavor) -> dict[str, int]:
    if spec is None:
        return class_usage.of_sizes(flavor.vcpus, flavor.memory_mib)
    return class_usage.of_flavor(flavor, volume_backed=spec.volume_backed)
