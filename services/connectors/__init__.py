"""One module or room per back end, and the protocol that they share."""
