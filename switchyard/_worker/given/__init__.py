"""What a handler is given to work with."""
