"""Snapshots of a federation's databases: how their files look, and how databases become files and files databases."""
