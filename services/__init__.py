"""The processes around the event core: broker, gateway, worker, keeper, projector, command line."""
