"""The door for Mistral's clients: files, OCR, batch jobs, completions and embeddings."""
