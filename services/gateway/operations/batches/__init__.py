"""Batches: made, read, cancelled, and their outputs."""
