"""Reads the text layer of a PDF page: letters, faces, and text that is garbled."""
