"""Chooses jobs for whoever takes them: scans, shared by takers that are alike, over the lanes that fit."""
