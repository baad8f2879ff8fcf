"""Files that reach a tenant past the gateway."""
