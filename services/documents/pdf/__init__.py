"""PDF: what a page holds, read with pdfium."""
