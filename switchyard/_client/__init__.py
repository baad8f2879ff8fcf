"""The client, inside."""
