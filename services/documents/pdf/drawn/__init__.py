"""Reads what a PDF page draws beside text: rules, bullets and objects."""
