"""From a workflow and what a submission says of it to the job that is submitted."""
