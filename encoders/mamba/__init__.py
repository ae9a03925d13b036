"""Mamba and Mamba-2 encoders: linear time, constant memory in the length of a text."""
