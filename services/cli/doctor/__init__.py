"""`switchyard doctor`."""
