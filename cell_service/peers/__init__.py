"""Clients of the services beside us: image, network, placement, identity. Public APIs and the catalogue only."""
