"""Which parts of long documents answer a question: selectors, from word counts to language models."""
