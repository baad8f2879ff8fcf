"""What a PDF page draws beside text."""
