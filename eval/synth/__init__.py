"""Long documents with known evidence: pure functions of their parameters and a seed, without any download."""
