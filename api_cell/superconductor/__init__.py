"""Over the cells: places what the API has accepted, and sees through what reaches across databases."""
