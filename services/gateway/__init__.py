"""The REST and WebSocket front door: every API of Switchyard, and its live updates."""
