"""Alembic's script directory for the schema of a cell."""
