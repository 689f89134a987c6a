"""The operations on instances: one typed declaration for each operation, a module a family, and the table of all."""
