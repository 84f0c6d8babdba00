"""Unlabeled images: sources to pick from, and the data module that turns one into batches of crops."""

from srt_distill.data.files import DavisFrames, FileList, ImageFolder
from srt_distill.data.hugging_face import HuggingFaceImages
from srt_distill.data.mixture import Mixture
from srt_distill.data.shards import TarShards
from srt_distill.data.source import ImageSource
from srt_distill.data.streaming_hugging_face import HuggingFaceStream
from srt_distill.data.unlabeled import UnlabeledImages
from srt_distill.data.video import VideoFrames

__all__ = [
    "DavisFrames",
    "FileList",
    "HuggingFaceImages",
    "HuggingFaceStream",
    "ImageFolder",
    "ImageSource",
    "Mixture",
    "TarShards",
    "UnlabeledImages",
    "VideoFrames",
]
