"""Events as bytes: written, read, and what cannot be read."""
