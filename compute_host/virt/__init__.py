"""The driver seam and the drivers behind it."""
