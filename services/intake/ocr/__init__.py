"""Documents to be read as clients of Mistral's OCR ask for it, and the answers that they read."""
