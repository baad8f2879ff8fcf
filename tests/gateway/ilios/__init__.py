"""The document door, as clients of Ilios see it."""
