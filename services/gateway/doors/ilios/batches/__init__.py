"""Batches: many documents in one request."""
