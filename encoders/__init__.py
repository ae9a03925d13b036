"""Encoders: texts to vectors, with a span and a token count for each."""
