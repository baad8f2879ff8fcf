"""A document in the forms that were asked for."""
