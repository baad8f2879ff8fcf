"""The catalogue of model files, and who fetches which of them now."""
