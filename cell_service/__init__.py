"""A cell: the words that all packages share, the cell's tables and queue, its conductor, and clients of its peers."""
