"""What users of Switchyard import: `switchyard.client`, `handlers`, `testing` and `worker`."""
