"""The REST edge: what is between a socket and a handler, for the Compute and the Placement API alike."""
