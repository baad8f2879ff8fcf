"""Claims of workers that do not speak NATS: a job is found, and leased for a time."""
