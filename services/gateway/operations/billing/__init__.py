"""What was used, what it costs, and what of the disk it takes."""
