"""Uploads that can be resumed, by the protocol of tus."""
