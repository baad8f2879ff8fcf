"""Attempts that back ends carry on by themselves: left to them, watched, ended; for all parts that do so."""
