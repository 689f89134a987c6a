"""The image companion: Image v2."""
