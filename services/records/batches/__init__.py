"""Batches: the jobs of the lines of one file, and how far each batch has come."""
