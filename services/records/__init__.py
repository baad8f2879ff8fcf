"""What stands in buckets: what operators set, and who is there."""
