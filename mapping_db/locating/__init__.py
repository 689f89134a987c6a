"""Which cell an instance is in: caches, the mapping, and asking again where it went."""
