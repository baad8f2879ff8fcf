"""Pages that are images: read by an OCR program, measured and put together."""
