"""HTTP itself: bodies, queries, errors, connections; nothing of any route."""
