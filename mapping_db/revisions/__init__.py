"""Alembic's script directory for the global schema."""
