"""Engines of documents, and doubles of them."""
