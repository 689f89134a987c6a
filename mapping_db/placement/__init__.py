"""Placement on the global database: providers, their inventories, and the consumers' allocations."""
