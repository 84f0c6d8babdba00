import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srt_distill.visualization.noise import heat_map, heat_range, noise_map, resizing_noise_map
from tests.oracles import noise_pixel_by_pixel


@pytest.mark.parametrize("factor", [(1, 1), (4, 4), (3, 5)])
def test_noise_is_the_distance_to_the_token_that_covers_a_position(generator, factor):
    single = torch.randn(2, 40, 3, 4, generator=generator)
    features = torch.randn(2, 40, 3 * factor[0], 4 * factor[1], generator=generator)
    found = noise_map(features, single)
    for i in range(2):
        np.testing.assert_allclose(found[i], noise_pixel_by_pixel(features[i].numpy(), single[i].numpy()), rtol=1e-5)


def test_resizing_noise_is_zero_in_the_middle_of_tokens_and_largest_at_their_borders(generator):
    single = torch.randn(1, 40, 4, 4, generator=generator)
    found = resizing_noise_map(single, 20, 20)
    resized = F.interpolate(single, (20, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, noise_map(resized, single))
    assert found[0, 2::5, 2::5].max() < 1e-4 < found[0, 4:16:5].min()


def test_features_from_another_image_size_are_refused():
    with pytest.raises(ValueError, match="9x8 positions do not divide evenly into the 4x4 tokens"):
        noise_map(torch.zeros(1, 2, 9, 8), torch.zeros(1, 2, 4, 4))


def test_heat_grows_with_the_value_and_is_clipped():
    picture = heat_map(torch.tensor([[0.0, 1.0, 2.0, 9.0]]), high=2.0)
    brightness = picture.sum(-1, dtype=int)[0]
    assert brightness[0] < brightness[1] < brightness[2] == brightness[3]
    with pytest.raises(ValueError, match="must be above 0"):
        heat_map(torch.zeros(1, 1), high=0.0)


def test_one_scale_covers_all_maps_but_ignores_their_outliers():
    calm = torch.linspace(0, 1, 1001)
    wild = torch.cat([2 * calm, torch.tensor([1e6])])
    assert heat_range([calm, wild]) == pytest.approx(1.98, abs=0.01)
    assert heat_range([torch.zeros(4)]) == 1.0
