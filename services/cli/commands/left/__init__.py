"""Commands about what jobs have left."""
