"""Clients: they submit jobs and follow them."""
