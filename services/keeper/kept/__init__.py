"""What of ended jobs is kept, archived and erased."""
