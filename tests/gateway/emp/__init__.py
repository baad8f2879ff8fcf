"""The emp-redis door."""
