"""Workers of the Python generation."""
