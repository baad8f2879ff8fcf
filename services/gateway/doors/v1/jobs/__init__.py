"""Routes of jobs: submission, reads, actions, reviews and dead letters."""
