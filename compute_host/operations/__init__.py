"""The work of a host on instances: one function for each kind of operation."""
