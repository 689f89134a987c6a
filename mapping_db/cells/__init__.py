"""Cells opened on demand, each behind its own pool and breaker."""
