"""The process beside a worker that keeps its leases and sends its heartbeats."""
