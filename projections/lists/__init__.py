"""Which jobs a list shows, and what became of those of a day."""
