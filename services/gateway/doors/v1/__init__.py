"""The API, `/v1`: `docs/api.md`."""
