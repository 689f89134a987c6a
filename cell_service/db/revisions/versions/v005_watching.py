"""When a conductor last watched the hosts."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column

from cell_service.db.sql.types import Utc
from cell_service.db.upgrades import add_missing

revision = "cell_005"
down_revision = "cell_004"


def upgrade() -> None:
    add_missing(op.get_bind(), "services", Column("watched_at", Utc))
