"""The gateway as commands that wait for nothing else ask it."""
