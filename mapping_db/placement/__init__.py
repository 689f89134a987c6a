"""Placement on the global database: providers, what they have, and who has claimed how much of it."""
