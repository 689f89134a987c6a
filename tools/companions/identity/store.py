"""The records of the identity companion: users, their roles, and the services' endpoints."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import bcrypt
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from tools.companions.store import doc, ident

metadata = MetaData()

domains = Table("domains", metadata, ident(primary_key=True), ident("name", unique=True), Column("enabled", Boolean),
                doc())  # fmt: skip
projects = Table("projects", metadata, ident(primary_key=True), ident("name"), ident("domain_id"),
                 Column("enabled", Boolean), doc(), UniqueConstraint("domain_id", "name"))  # fmt: skip
users = Table("users", metadata, ident(primary_key=True), ident("name"), ident("domain_id"),
              Column("enabled", Boolean), Column("password", Text), Column("valid_since", Float, default=0.0),
              doc(), UniqueConstraint("domain_id", "name"))  # fmt: skip
roles = Table("roles", metadata, ident(primary_key=True), ident("name", unique=True), doc())
regions = Table("regions", metadata, ident(primary_key=True), doc())
services = Table("services", metadata, ident(primary_key=True), ident("name"), ident("type"),
                 Column("enabled", Boolean), doc())  # fmt: skip
endpoints = Table("endpoints", metadata, ident(primary_key=True), ident("service_id"), ident("interface"),
                  ident("region_id"), ident("url"), Column("enabled", Boolean), doc())  # fmt: skip
assignments = Table("assignments", metadata, ident("user_id", primary_key=True), ident("target_type", primary_key=True),
                    ident("target_id", primary_key=True), ident("role_id", primary_key=True))  # fmt: skip
application_credentials = Table("application_credentials", metadata, ident(primary_key=True), ident("name"),
                                ident("user_id", index=True), ident("project_id"), Column("secret", Text), doc(),
                                UniqueConstraint("user_id", "name"))  # fmt: skip
registered_limits = Table("registered_limits", metadata, ident(primary_key=True), ident("service_id"),
                          ident("region_id"), ident("resource_name"), Column("default_limit", Integer), doc(),
                          UniqueConstraint("service_id", "region_id", "resource_name"))  # fmt: skip
limits = Table("limits", metadata, ident(primary_key=True), ident("project_id"), ident("domain_id"),
               ident("service_id"), ident("region_id"), ident("resource_name"), Column("resource_limit", Integer),
               doc(), UniqueConstraint("project_id", "service_id", "region_id", "resource_name"))  # fmt: skip
revoked = Table("revoked", metadata, ident("audit_id", primary_key=True), Column("expires", Float))

IMPLIED = {"admin": ("manager", "member", "reader"), "manager": ("member", "reader"), "member": ("reader",)}
"""A role → the roles that come with it."""
SYSTEM = "system"
ALL = "all"


def new_id() -> str:
    return uuid4().hex


def rows(tx: Connection, table: Table, **wanted: object) -> list[dict[str, Any]]:
    """The rows whose columns have these values, ordered by id; `doc` is spread out among the columns."""
    query = select(table).order_by(*table.primary_key.columns)
    for name, value in wanted.items():
        query = query.where(table.c[name] == value)
    return [_flat(dict(row)) for row in tx.execute(query).mappings()]


def row(tx: Connection, table: Table, **wanted: object) -> dict[str, Any] | None:
    found = rows(tx, table, **wanted)
    return found[0] if found else None


def add(tx: Connection, table: Table, values: dict[str, Any]) -> None:
    columns = {name: values[name] for name in table.c.keys() if name in values}  # noqa: SIM118  columns, not names
    rest = {name: value for name, value in values.items() if name not in table.c}
    tx.execute(insert(table).values(**columns, doc=rest))


def remove(tx: Connection, table: Table, **wanted: object) -> int:
    query = delete(table)
    for name, value in wanted.items():
        query = query.where(table.c[name] == value)
    return tx.execute(query).rowcount


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    rest = values.pop("doc", None) or {}
    return rest | values


def roles_on(tx: Connection, user_id: str, target_type: str, target_id: str) -> list[dict[str, str]]:
    """The roles that a user has there, with those implied, as {"id", "name"}."""
    query = (
        select(roles.c.id, roles.c.name)
        .join(assignments, assignments.c.role_id == roles.c.id)
        .where(
            assignments.c.user_id == user_id,
            assignments.c.target_type == target_type,
            assignments.c.target_id == target_id,
        )
    )
    ids = {found.name: found.id for found in tx.execute(query)}
    more = implied(ids)
    if more - ids.keys():
        ids |= {found.name: found.id for found in tx.execute(select(roles.c.id, roles.c.name)) if found.name in more}
    return [{"id": ids[name], "name": name} for name in sorted(ids)]


def implied(names: Iterable[str]) -> set[str]:
    """Names of the roles that come with these."""
    return {other for name in names for other in IMPLIED.get(name, ())}


def assign(tx: Connection, user_id: str, target_type: str, target_id: str, role_id: str) -> None:
    """Give the user the role. Done again: no error."""
    key = {"user_id": user_id, "target_type": target_type, "target_id": target_id, "role_id": role_id}
    tx.execute(insert(assignments).prefix_with("OR IGNORE").values(**key))


def hashed(password: str, rounds: int) -> str:
    return bcrypt.hashpw(_prepared(password), bcrypt.gensalt(rounds)).decode()


def matches(password: str, stored: str | None) -> bool:
    return stored is not None and bcrypt.checkpw(_prepared(password), stored.encode())


def _prepared(password: str) -> bytes:
    """A password of any length in fewer bytes than bcrypt reads."""
    return base64.b64encode(hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest())


def moment(seconds: float) -> str:
    """A time as the Identity API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
