"""What users of Switchyard import: `switchyard.client`, `switchyard.handlers` and `switchyard.testing`."""
