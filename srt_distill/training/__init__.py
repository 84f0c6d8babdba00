"""Distillation of SRT features into weights (paper, Eq. 6), and all that a run needs."""
