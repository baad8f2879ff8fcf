"""How prediction servers of each kind are spoken to."""
