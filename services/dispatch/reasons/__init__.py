"""Why a job waits, in words and numbers."""
