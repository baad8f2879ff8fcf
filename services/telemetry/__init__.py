"""What a process says of itself: metrics, traces and health, and the names of them."""
