"""What each part may do at the broker, whose key proves which part it is, and the file that says both."""
