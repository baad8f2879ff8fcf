"""Commands that show what there is: kinds, files, and the whole at a glance."""
