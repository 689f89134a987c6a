"""Benchmarks. Each prints one JSON object; `table.py` makes a table of several."""
