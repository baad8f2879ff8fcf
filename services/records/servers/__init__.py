"""The registry of prediction servers that jobs are pushed to, and what is known of how each one fares."""
