"""Quotas, limits and usage."""
