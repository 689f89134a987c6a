"""What a cell is: shared words, the tables and queue of a cell, its conductor, clients of its peers."""
