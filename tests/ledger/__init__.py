"""The ledger: lines, sums, prices."""
