"""Read models folded from events; disposable, each with its checkpoint."""
