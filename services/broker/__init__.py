"""What knows NATS and nothing of jobs: connection, reads, acknowledged writes, streams."""
