"""Candidates on tasks, side by side: one answer."""
