"""The event core: what happened to jobs and what may happen next. Pure; imports no I/O."""
