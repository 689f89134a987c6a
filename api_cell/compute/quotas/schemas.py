"""Bodies and queries of quota sets and quota class sets."""

from __future__ import annotations

from api_cell.compute.quotas.views import IN_CLASSES, IN_SETS
from api_cell.edge.route import Schema
from api_cell.edge.shapes import BOOLEAN, TEXT, number, query_until_closed, wrapped
from api_cell.edge.versioned import Field, bodies_of

LIMIT: Schema = number(-1, pattern="^-?[0-9]+$")


def _limits(names: tuple[Field[None], ...]) -> tuple[Field[Schema], ...]:
    return tuple(Field(each.name, LIMIT, each.since, each.until) for each in names)


UPDATE_SET = bodies_of(lambda fields: wrapped("quota_set", fields), Field("force", BOOLEAN), *_limits(IN_SETS))
UPDATE_CLASS = bodies_of(
    lambda fields: wrapped("quota_class_set", fields),
    *_limits(IN_CLASSES),
    Field("server_groups", LIMIT),
    Field("server_group_members", LIMIT),
)
BY_USER = query_until_closed({"user_id": TEXT})
LIMITS = query_until_closed({"tenant_id": TEXT})
