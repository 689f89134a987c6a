"""Hosts over all cells: their services and hypervisors, and what operators do to them."""
