"""Reads Word documents: styles, numbering, runs and tables become blocks."""
