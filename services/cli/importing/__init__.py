"""`switchyard import`: files of other systems, read and sent to a gateway."""
