"""The words of the log: causes, reasons and refusals, and the types of ids and sequences."""
