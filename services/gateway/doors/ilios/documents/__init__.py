"""Documents: where their bytes come and go, and how their text is answered."""
