"""SEA: split, encode, aggregate."""
