"""Small trainings that several test files start from."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from srt_distill.backbone.options import BackboneOptions
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.settings import TargetSRTOptions

RADIUS = 1


def images(num, seed=0, margin=RADIUS):
    """Smooth random pictures of 32x48 with a margin: (num, 3, 32 + 2m, 48 + 2m) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 8, 10, generator=generator)
    size = 32 + 2 * margin, 48 + 2 * margin
    return (torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).byte()


def loader(num=8, batch_size=4, seed=0):
    return DataLoader(images(num, seed), batch_size=batch_size)


def fast_adamw(params):
    return torch.optim.AdamW(params, lr=3e-3, weight_decay=0.0)


def radius(value=RADIUS, **settings):
    return TargetSRTOptions(radius=value, **settings)


def distillation(folder, **settings):
    options = {"srt": radius(), "optimizer": fast_adamw, **settings}
    return SRTDistillation(BackboneOptions(f"local-dir:{folder}"), **options)


def quiet_trainer(folder, **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    settings.setdefault("enable_checkpointing", False)
    return pl.Trainer(default_root_dir=folder, num_sanity_val_steps=0, **{**quiet, **settings})


def ready(module):
    """A module with its models, without training."""
    module.configure_model()
    return module
