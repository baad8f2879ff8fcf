"""Attempts in slots: taken, run, renewed, settled, and what each writes to the log."""
