"""Octopoid's API, `/api/v1` and `/api/health`: a thin layer over timed leases and review.

A task is a job of kind `agent`. What becomes of it stands in the job's events alone; what a job has no place
for (a title that changes, messages, flows) stands in documents in the bucket `octopoid`.
"""
