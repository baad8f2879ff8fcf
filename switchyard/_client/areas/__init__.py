"""Areas of the API that both clients have as attributes."""
