"""Hosts as operators see them: hypervisors, services, aggregates, availability zones."""
