"""Pages of a PDF that were read in one place and are put together in another."""
