"""The command that submits a job."""
