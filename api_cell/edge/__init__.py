"""The REST edge: what stands between a socket and a handler, for the Compute and the Placement API alike."""
