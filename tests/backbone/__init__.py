"""Tests of srt_distill.backbone."""
