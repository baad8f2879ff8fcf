"""Runnable comparisons that print floors, ours and ratios from one run."""
