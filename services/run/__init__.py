"""The processes: each part alone, or all in one."""
