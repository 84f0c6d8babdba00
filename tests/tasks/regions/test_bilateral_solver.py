import numpy as np
import pytest
from PIL import Image

from srt_distill.tasks.regions import bilateral_solver
from tests.oracles import bilateral_solver_dense


def photograph(seed, height=40, width=56):
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("seed", range(4))
def test_it_solves_the_system_taken_literally(seed):
    image = photograph(seed)
    target = (np.random.default_rng(seed).random(image.shape[:2]) > 0.6).astype(float)
    expected = bilateral_solver_dense(image, target)
    exact = bilateral_solver(image, target, tolerance=1e-12, num_iterations=2000)
    assert np.abs(exact - expected).max() <= 1e-5
    assert np.abs(bilateral_solver(image, target) - expected).max() <= 5e-2  # 25 steps, as the script has it


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_constants_come_back(value):
    image = photograph(5)
    target = np.full(image.shape[:2], value)
    np.testing.assert_allclose(bilateral_solver(image, target), target, atol=1e-12)


def test_a_coarse_mask_gets_the_borders_of_the_photograph():
    image = np.full((64, 64, 3), 40, dtype=np.uint8)
    image[16:52, 12:44] = 200
    truth = image[..., 0] == 200
    coarse = np.zeros((64, 64))
    coarse[16:48, 16:48] = 1
    soft = bilateral_solver(image, coarse)
    assert np.mean((soft > 0.5) == truth) > np.mean((coarse > 0.5) == truth)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="40x56.*10x10"):
        bilateral_solver(photograph(0), np.zeros((10, 10)))
