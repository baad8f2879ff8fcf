"""Servers with a protocol of their own: described by their owners. Pure."""
