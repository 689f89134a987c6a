"""The key manager companion: Barbican's API v1."""
