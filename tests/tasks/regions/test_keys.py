import math

import pytest
import torch

from srt_distill.images import IMAGENET
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.regions.keys import KeyOptions, KeyReader
from tests.tasks.made_candidates import cells, made_candidate

IMAGE = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def without_keys(layers, norm):
    if any(":key" in str(layer) for layer in layers):
        raise ValueError("no keys here")
    if any(not str(layer).startswith("-1") for layer in layers):
        raise ValueError("layer is out of range")
    return cells()


def test_keys_are_read_where_there_are_any():
    reader = KeyReader.probe(made_candidate(), KeyOptions())
    assert reader == KeyReader(KeyOptions(), True, 8, 8)
    assert reader.source == "-1:key"
    assert KeyReader.from_tensors(KeyOptions(), reader.to_tensors()) == reader
    assert reader.read(made_candidate(), IMAGE).shape == (7, 4, 6)


def test_a_candidate_without_keys_is_judged_by_its_chosen_features_under_a_warning():
    bare = Candidate("bare", cells(), IMAGENET)
    with pytest.warns(UserWarning, match="bare.*key"):
        assert KeyReader.probe(bare, KeyOptions()).source == "chosen"
    keyless = Candidate("keyless", cells(), IMAGENET, read=without_keys)
    with pytest.warns(UserWarning, match="no keys here"):
        reader = KeyReader.probe(keyless, KeyOptions())
    assert torch.equal(reader.read(keyless, IMAGE), keyless.maps(IMAGE)[-1][0])


def test_a_layer_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="out of range"):
        KeyReader.probe(Candidate("keyless", cells(), IMAGENET, read=without_keys), KeyOptions(layer=12))


def test_centred_features_have_no_mean():
    reader = KeyReader.probe(made_candidate(), KeyOptions(center=True))
    assert reader.read(made_candidate(), IMAGE).mean((1, 2)).abs().max() < 1e-6


def test_a_grid_finer_than_patches_still_takes_images_of_whole_patches():
    def fine(images):
        if images.shape[-1] % 16:
            raise ValueError("not a multiple of 16")
        return cells(4)(images)

    reader = KeyReader.probe(Candidate("fine", fine, IMAGENET), KeyOptions(facet="chosen"))
    assert (reader.stride, reader.multiple) == (4, 16)


def test_what_cannot_be_cut_is_refused():
    broken = Candidate("broken", cells(scale=math.nan), IMAGENET)
    with pytest.raises(ValueError, match="broken.*not finite"):
        KeyReader.probe(broken, KeyOptions(facet="chosen")).read(broken, IMAGE)
    with pytest.raises(ValueError, match="2 shifts"):
        KeyReader.probe(made_candidate(output_shifts=((0, 0), (1, 0))), KeyOptions())
