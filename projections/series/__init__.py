"""How many jobs came and ended in each minute and hour, and how long they waited and ran."""
