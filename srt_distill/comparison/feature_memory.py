"""Features that several tasks read of the same image are extracted once.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens.
"""

import hashlib
from collections import OrderedDict
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from srt_distill.extractor import Extractor
from srt_distill.tasks import Candidate

LIMIT = 2**30  # bytes; the least recently used give way


class FeatureMemory:
    """Keeps features of candidates, the chosen ones and those at layers that tasks name, by the pixels of the image.

    Args:
        limit: Bytes that are kept; beyond them the least recently used give way.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple[object, ...], tuple[Tensor, ...]] = OrderedDict()
        self._size = 0

    def attach(self, candidate: Candidate) -> Candidate:
        """Give a candidate whose features are remembered."""
        owner, read = object(), candidate.read

        def remembering(extract: Extractor, *which: object) -> Extractor:
            def run(images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
                pixels = hashlib.blake2b(images.contiguous().cpu().numpy().tobytes(), digest_size=16).digest()
                key = (owner, which, tuple(images.shape), pixels)
                if key not in self._kept:
                    self._keep(key, tuple(maps.cpu() for maps in extract(images)))
                self._kept.move_to_end(key)
                return tuple(maps.to(images.device) for maps in self._kept[key])

            return run

        chosen = remembering(candidate.extract)
        if read is None:
            return replace(candidate, extract=chosen)
        return replace(
            candidate, extract=chosen, read=lambda layers, norm: remembering(read(layers, norm), layers, norm)
        )

    def _keep(self, key: tuple[object, ...], maps: tuple[Tensor, ...]) -> None:
        self._kept[key] = maps
        self._size += _count_bytes(maps)
        while self._size > self.limit and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= _count_bytes(dropped)


def _count_bytes(maps: tuple[Tensor, ...]) -> int:
    return sum(features.nbytes for features in maps)
