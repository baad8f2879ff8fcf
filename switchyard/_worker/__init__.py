"""The worker over REST, and what runs handlers in any process."""
