"""Fetching of model files into a folder."""
