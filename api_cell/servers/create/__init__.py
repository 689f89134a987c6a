"""Accepting a new server: its body, its image, its devices."""
