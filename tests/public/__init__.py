"""Functional tests of public clients, from their source distributions, against a cloud of `polycell up`."""
