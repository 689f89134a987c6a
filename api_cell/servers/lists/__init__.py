"""Lists of servers over any number of cells."""
