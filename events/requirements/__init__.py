"""What a job demands of a worker, and whether a worker has it."""
