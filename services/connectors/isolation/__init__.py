"""Child processes in which connectors run code that may block, crash or hang."""
