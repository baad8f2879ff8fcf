"""Names of settings that older systems read: understood, or refused with what takes their place."""
