"""The conductors of one cell: outcomes, leases, heartbeats, periodic duties."""
