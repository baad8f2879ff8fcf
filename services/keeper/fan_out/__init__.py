"""Jobs that end in parts, as the keeper carries them on."""
