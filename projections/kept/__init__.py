"""What is kept of jobs that have ended, who needs them, and when they go."""
