"""Choosing hosts: an in-memory picture of them, pure filters and weighers on it, and claims that hold in races."""
