"""The REST and WebSocket front door."""
