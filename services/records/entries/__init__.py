"""What a tenant keeps beside its jobs: entries by sort and id, by compare-and-set, and their index."""
