"""What callers may do with workflows."""
