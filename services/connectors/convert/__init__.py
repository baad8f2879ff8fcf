"""Kind `convert`: a document becomes Markdown, read and written by `services.documents`."""
