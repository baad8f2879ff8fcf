"""`/v1/usage/…`, `/v1/prices`, `/v1/quotas` and `/v1/disk`: what was used, and what it costs."""
