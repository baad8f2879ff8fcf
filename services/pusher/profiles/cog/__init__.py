"""Cog servers, of both generations."""
