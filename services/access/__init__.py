"""Who calls, and what that caller may do; nothing here knows HTTP."""
