"""Choosing hosts: an in-memory snapshot of them, pure filters and weighers on it, and claims that no race can break."""
