"""Commands about servers that jobs are pushed to."""
