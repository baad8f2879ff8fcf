"""Tests of emp-redis's workers at our door."""
