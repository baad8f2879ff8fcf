"""A nats-server of our own on the loopback address."""
