"""What an attempt has used, as it is kept for years, and what it costs."""
