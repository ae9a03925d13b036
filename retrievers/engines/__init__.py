"""Encoding in other processes than the one that writes the index: a pool on this machine, actors of Ray."""
