"""The monitor page: what people see of jobs, workers and lanes in a browser."""
