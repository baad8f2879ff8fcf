"""Reads workbooks: each sheet as tables, with numbers as they are shown."""
