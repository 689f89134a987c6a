"""Lists over many cells: sorted pages of each, merged."""
