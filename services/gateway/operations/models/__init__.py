"""Model files: an operator's catalogue, and what workers are to fetch of it."""
