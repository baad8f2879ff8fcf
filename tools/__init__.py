"""Set-up and generators, used while developing."""
