"""What callers may do about prediction servers, and how they ask for it."""
