"""The three database engines: connections, column types, prepared statements, sort orders."""
