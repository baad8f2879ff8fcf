"""Monitors: they see how everything is."""
