"""The emp-redis door: clients, workers and monitors of both its generations."""
