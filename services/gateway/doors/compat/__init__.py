"""Doors for the clients of hosted services, which come over by a base URL and a key: `docs/compat.md`."""
