"""Training of Mamba retrievers."""
