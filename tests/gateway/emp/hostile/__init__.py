"""Peers that mean ill, or are broken."""
