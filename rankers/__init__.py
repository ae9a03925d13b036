"""Rankers: rows to the same rows in a better order."""
