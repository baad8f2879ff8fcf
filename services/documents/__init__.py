"""The converter: a document becomes Markdown, JSON or text. A library that imports nothing of ours."""
