"""What the payloads of some kinds need of a worker, found out from them."""
