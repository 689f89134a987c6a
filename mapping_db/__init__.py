"""The global database, the mapping cache, and cells opened on demand."""
