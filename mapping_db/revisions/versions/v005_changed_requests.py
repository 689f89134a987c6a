"""How often a build request has been changed."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer

from cell_service.db.upgrades import add_missing

revision = "global_005"
down_revision = "global_004"


def upgrade() -> None:
    add_missing(op.get_bind(), "build_requests", Column("revision", Integer, nullable=False, server_default="0"))
