"""What may be done to instances: one typed declaration for each operation, a module a family, and the table of all."""
