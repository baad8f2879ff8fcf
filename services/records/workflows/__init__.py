"""Workflows: templates of payloads with named inputs, in versions that never change."""
