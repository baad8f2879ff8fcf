"""What is shown of jobs that wait for their parts."""
