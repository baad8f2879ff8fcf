"""Uploads that come in several requests, through any gateway, and become a file with their last byte."""
