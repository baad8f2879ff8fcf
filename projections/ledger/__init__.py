"""What a job's history and the ledger come to: lines, and sums over them."""
