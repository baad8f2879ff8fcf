"""One file per back end, and the protocol they share."""
