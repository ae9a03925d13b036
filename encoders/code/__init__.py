"""Source code: languages, syntax trees, and where to cut between statements."""
