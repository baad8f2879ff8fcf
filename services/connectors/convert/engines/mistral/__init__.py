"""The engine `mistral`: OCR by Mistral's API, and its batches."""
