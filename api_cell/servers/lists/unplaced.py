"""Servers that are in no cell yet, checked against the conditions of a list."""

from __future__ import annotations

import re

from cell_service.db.instance_lists import Listing, StatusFilter
from cell_service.errors import Invalid
from cell_service.model.instance import Instance


def matches(instance: Instance, listing: Listing) -> bool:
    """Whether a server that is in no cell yet meets conditions which cells put into their queries. Raises Invalid."""
    changed = instance.updated_at or instance.created_at
    for name, values in listing.equal.items():
        value = instance.flavor.flavorid if name == "flavorid" else getattr(instance, name)
        if (value.value if hasattr(value, "value") else value) not in values:
            return False
    for name, pattern in listing.patterns.items():
        try:
            if not re.search(pattern, getattr(instance, name) or ""):
                return False
        except re.error:
            raise Invalid(reason=f"Invalid regular expression '{pattern}'") from None
    if listing.statuses is not None and not any(_has_status(instance, status) for status in listing.statuses):
        return False
    if listing.address_patterns or listing.locked or listing.deleted:
        return False
    tags = set(instance.tags)
    return (
        tags.issuperset(listing.all_tags)
        and (not listing.any_tags or not tags.isdisjoint(listing.any_tags))
        and (not listing.not_all_tags or not tags.issuperset(listing.not_all_tags))
        and tags.isdisjoint(listing.not_any_tags)
        and listing.metadata.items() <= instance.metadata.items()
        and (listing.changes_since is None or changed >= listing.changes_since)
        and (listing.changes_before is None or changed <= listing.changes_before)
    )


def _has_status(instance: Instance, status: StatusFilter) -> bool:
    if instance.vm_state.value != status.vm_state:
        return False
    task = instance.task_state.value if instance.task_state else None
    return (task not in status.tasks) if status.other else (task in status.tasks)
