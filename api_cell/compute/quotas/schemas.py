"""Bodies and queries of quota sets and quota class sets."""

from __future__ import annotations

from api_cell.compute.quotas.views import shown_in_classes, shown_in_sets
from api_cell.edge.route import Schema, Version
from api_cell.edge.shapes import BOOLEAN, TEXT, by_version, number, query_until_closed, strict, wrapped

LIMIT: Schema = number(-1, pattern="^-?[0-9]+$")


def _update_set(version: Version) -> Schema:
    return wrapped("quota_set", strict({"force": BOOLEAN} | dict.fromkeys(shown_in_sets(version), LIMIT)))


def _update_class(version: Version) -> Schema:
    names = (*shown_in_classes(version), "server_groups", "server_group_members")
    return wrapped("quota_class_set", strict(dict.fromkeys(names, LIMIT)))


UPDATE_SET = by_version(_update_set, (2, 1), (2, 36), (2, 57))
UPDATE_CLASS = by_version(_update_class, (2, 1), (2, 50), (2, 57))
BY_USER = query_until_closed({"user_id": TEXT})
LIMITS = query_until_closed({"tenant_id": TEXT})
