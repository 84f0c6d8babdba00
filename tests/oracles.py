"""Slow, literal twins of every fast path: loops over pixels, written from the definition and nothing else."""
