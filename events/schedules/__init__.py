"""Schedules: which ticks they have, and which of them make a job."""
