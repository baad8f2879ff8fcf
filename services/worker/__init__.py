"""The process that runs jobs under held leases."""
