"""The document door: converts documents for the clients of Ilios."""
