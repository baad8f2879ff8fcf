"""Reads HTML: its encoding, its blocks and its tables."""
