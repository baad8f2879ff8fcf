"""Rules of `decide`, a module for each subject."""
