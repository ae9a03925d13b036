"""Training of listwise rankers that see a whole list at once (full ranking, arXiv 2412.14574)."""
