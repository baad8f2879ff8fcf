"""Handlers of users as connectors."""
