"""Models are made under the trainer's device, whatever torch's default device is."""

import torch

from tests.training.distilling import distillation


def test_made_under_another_default_device(tiny_folder):
    """Lightning makes models under the accelerator as default device; weights that were read before lie on the CPU."""
    module = distillation(tiny_folder, layers=(-1, "-1:prefix"))
    assert module.patch_size  # reads the weights, as `fit` does to check the crops
    with torch.device("meta"):
        module.configure_model()
    assert {p.device.type for p in module.parameters()} == {"cpu"}
