"""Keeps the read model of this host current."""
