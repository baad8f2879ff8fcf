"""The process beside a worker that renews its leases while its event loop is blocked."""
