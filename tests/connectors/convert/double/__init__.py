"""Doubles of the services that convert documents."""
