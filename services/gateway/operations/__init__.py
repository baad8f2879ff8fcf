"""What a caller may do, whatever the door that it comes through; nothing here knows of HTTP."""
