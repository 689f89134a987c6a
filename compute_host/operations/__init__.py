"""What a host does to instances: one function for each kind of operation."""
