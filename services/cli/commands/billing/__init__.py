"""What was used, what it costs, and what takes how much of the disk."""
