"""The global side: REST edge, Compute and Placement APIs, scheduler, super-conductor."""
