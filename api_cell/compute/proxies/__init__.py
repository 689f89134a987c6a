"""Calls that are passed on to other services, and calls that other services make."""
