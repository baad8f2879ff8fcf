"""Reads documents of the Office Open XML formats: what they share, and a room for each."""
