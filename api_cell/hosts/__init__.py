"""Hosts over all cells: asking for their services and hypervisors, and what operators do to them."""
