"""Attempts that a back end carries on by itself, over the API."""
