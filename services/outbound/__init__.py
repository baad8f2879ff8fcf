"""Connections to addresses that users give: which of them may be called, and a client that holds to that."""
