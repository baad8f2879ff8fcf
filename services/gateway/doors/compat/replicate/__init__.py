"""The door for clients of Replicate."""
