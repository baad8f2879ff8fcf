"""The task door."""
