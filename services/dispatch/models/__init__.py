"""Whether model files that can be fetched would let a worker run a job."""
