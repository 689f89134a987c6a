"""Command lines, single-machine launcher, companion services."""
