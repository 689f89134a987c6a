"""Sealed passwords of moves and build requests; passwords that moves have used are removed from their plans."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, Table, Text, select, update

from cell_service.db.sql.types import Utc, ascii_id
from cell_service.db.upgrades import create_missing

revision = "global_004"
down_revision = "global_003"

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s"})

Table(
    "pending_secrets",
    metadata,
    Column("uuid", ascii_id(), primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("created_at", Utc, nullable=False),
)

moves = Table(
    "moves",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("finished_at", DateTime),
    Column("plan", Text, nullable=False),
)
"""The columns of the table that are read here."""


def upgrade() -> None:
    create_missing(op.get_bind(), metadata)
    _scrub(op.get_bind())


def _scrub(tx: Connection) -> None:
    """Remove passwords from the plans of moves that have ended, or whose host has had them. Those that are still needed
    are sealed by the super-conductor that claims the move: sealing needs the operator's keys."""
    holding = select(moves).where(moves.c.plan.like('%"admin_password":"_%'))
    for row in tx.execute(holding).all():
        plan = json.loads(row.plan)
        if row.finished_at is not None or "arrive" in plan["done"]:
            plan["admin_password"] = ""
            tx.execute(update(moves).where(moves.c.id == row.id).values(plan=json.dumps(plan, separators=(",", ":"))))
