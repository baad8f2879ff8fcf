"""Reads presentations: each slide in the order in which it is read."""
