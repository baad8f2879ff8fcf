"""Live updates over WebSockets and as server-sent events."""
