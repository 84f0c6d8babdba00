"""srt_distill: adapt a Vision Transformer to unlabeled images by distilling the Stochastic Resonance Transformer."""
