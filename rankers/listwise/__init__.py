"""Listwise ranking: plans, prompts, answers, and the engine that runs them."""
