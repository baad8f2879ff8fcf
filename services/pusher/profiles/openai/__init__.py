"""Servers that speak as OpenAI's API does: how they are asked, and what their answers come to."""
