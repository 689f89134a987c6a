"""Over the cells: places what the API has accepted, and finishes what concerns several databases."""
