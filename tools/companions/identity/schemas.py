"""The bodies of requests to the identity companion (Identity API reference, v3)."""

from __future__ import annotations

from api_cell.edge.route import Schema
from tools.companions.shapes import TEXT, WORD, item, listed, under

_OBJECT: Schema = {"type": "object"}
_FLAG: Schema = {"type": ["boolean", "null"]}
LOG_IN = under("auth", item("identity", identity=item("methods", methods={**listed(WORD), "minItems": 1})))
_FIELDS = {
    "name": TEXT, "description": {"type": ["string", "null"]}, "domain_id": TEXT, "default_project_id": TEXT,
    "parent_id": TEXT, "parent_region_id": TEXT, "id": TEXT, "password": {"type": ["string", "null"]}, "type": TEXT,
    "service_id": TEXT, "interface": TEXT, "url": {"type": ["string", "null"]}, "region_id": TEXT, "region": TEXT,
    "enabled": {"type": "boolean"}, "is_domain": _FLAG, "options": _OBJECT,
}  # fmt: skip


def noun(name: str) -> Schema:
    """The schema of a create or a change of a domain, a project, a user and so on."""
    return under(name, item(**_FIELDS))


CHANGE_PASSWORD = under("user", item("password", "original_password", password=WORD, original_password=WORD))
ADD_CREDENTIAL = under("application_credential", item(
    "name", name=WORD, secret=TEXT, description={"type": ["string", "null"]}, expires_at=TEXT, unrestricted=_FLAG,
    roles={"type": ["array", "null"], "items": item(id=WORD, name=WORD)},
))  # fmt: skip
_LIMIT = item(
    service_id=TEXT, region_id=TEXT, resource_name=TEXT, project_id=TEXT, domain_id=TEXT,
    description={"type": ["string", "null"]},
)  # fmt: skip


def limits(name: str) -> Schema:
    """New limits of that name."""
    return under(name, listed(_LIMIT))


def limit(name: str) -> Schema:
    """A change of one."""
    return under(name, _LIMIT)
