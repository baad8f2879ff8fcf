"""The ledger: one line for each attempt that has ended, written exactly once."""
