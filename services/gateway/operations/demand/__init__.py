"""What an autoscaler asks: what waits, and who could run it."""
