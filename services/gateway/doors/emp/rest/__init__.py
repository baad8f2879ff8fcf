"""REST, and one job as server-sent events."""
