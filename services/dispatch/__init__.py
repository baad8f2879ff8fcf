"""Which job is next, and its lease: for the slots of workers and for claims alike."""
