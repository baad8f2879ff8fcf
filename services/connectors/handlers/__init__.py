"""Handlers of users as connectors: they run on the loop, in a thread or in a process of their own."""
