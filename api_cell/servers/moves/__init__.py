"""Requests for moves: resize, migrations, evacuation, and what ends them."""
