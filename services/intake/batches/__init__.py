"""From the lines of a batch's file to the submissions of its jobs."""
