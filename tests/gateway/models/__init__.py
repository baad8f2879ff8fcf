"""The catalogue of model files, and workers that fetch of it."""
