"""The task door: the API of the Cloudflare task system, whose clients come over unchanged."""
