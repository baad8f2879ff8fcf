"""Who calls at this door: the keys of scopes, and the administrator's."""
