"""One module a role, each imported only by the processes that have the role (tools/services/compose.py)."""
