"""What this machine has for OCR: the program, and its processors."""
