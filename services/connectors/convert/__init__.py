"""Kind `convert`: a document becomes Markdown, read and written by `switchyard.services.documents`."""
