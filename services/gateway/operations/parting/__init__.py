"""Attempts over REST that end in parts."""
