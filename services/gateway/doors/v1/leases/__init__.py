"""Routes of timed leases."""
