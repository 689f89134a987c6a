"""Sealed passwords of moves and build requests; passwords that moves have used are removed from their plans."""

from __future__ import annotations

import json

from alembic import op
from sqlalchemy import BigInteger, Column, Connection, DateTime, Integer, MetaData, Table, Text, select, update

from cell_service.db.upgrades import add_missing

revision = "global_004"
down_revision = "global_003"

moves = Table(
    "moves",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("finished_at", DateTime),
    Column("plan", Text, nullable=False),
)
"""The columns of the table that are read here."""


def upgrade() -> None:
    for table in ("moves", "build_requests"):
        add_missing(op.get_bind(), table, Column("sealed", Text))
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
