"""The APIs, each with its routes; no door imports another."""
