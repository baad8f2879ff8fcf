"""What a worker over REST claims for: handlers and connectors, each under a name."""
