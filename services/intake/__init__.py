"""From a request to a job's first event; every door, the keeper and schedules use it."""
