"""What callers may do about erasures."""
