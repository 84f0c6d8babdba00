"""Scores of an extractor: DAVIS label propagation with its J and F. Knows extractors and not where they come from."""
