"""Documents in HTML."""
