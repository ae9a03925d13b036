"""Indexes: vectors or terms to ranked rows."""
