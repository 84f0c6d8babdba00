"""Scores of an extractor: DAVIS label propagation and its J and F. Knows extractors, and nothing of where they are from."""
