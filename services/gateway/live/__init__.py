"""Live updates: one reading of the log, and everyone who follows it."""
