"""Rows of the database of Octopoid's own server, and what they become at this door."""
