"""Usage, bills, prices, quotas and the disk."""
