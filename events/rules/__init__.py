"""Parts of what `decide` goes by, each about one thing."""
