"""What jobs have left."""
