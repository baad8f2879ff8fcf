"""The client, inside: its transport, retries, files, bulk submissions and live messages."""
