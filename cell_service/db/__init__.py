"""A cell's tables, and the database engine that the global side uses as well."""
