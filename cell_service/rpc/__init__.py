"""Talking over a queue: contracts declared once, transports, and the codec between."""
