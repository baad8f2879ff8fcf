"""What the machine of a worker has: GPUs, processor cores and memory."""
