"""What a document is made of, between the readers and the writers."""
