"""Commands about what workers may fetch."""
