"""The command about users and rights at the broker."""
