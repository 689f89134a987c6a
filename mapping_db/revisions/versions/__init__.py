"""One module a revision. A released one is never changed; the schema of the day is in mapping_db.schema."""
