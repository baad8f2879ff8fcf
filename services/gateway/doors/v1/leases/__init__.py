"""Routes of timed leases: what a worker over REST claims, renews and ends."""
