"""Jobs that end in parts, for workers of all kinds."""
