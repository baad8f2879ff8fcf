"""`switchyard config`, and the page of the settings."""
