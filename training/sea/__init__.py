"""Training of SEA's aggregators."""
