"""Retrievers: the index folder, its build, and search over it."""
