"""What the tags of a PDF say of its pages."""
