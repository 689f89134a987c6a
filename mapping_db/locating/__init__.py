"""Which cell an instance is in: caches, the mapping, and how a moved instance is followed."""
