"""The global database, the mapping cache, and the way from there into cells."""
