"""Carries batches on: checks their files, submits their lines, and writes their outputs."""
