"""Small trainings that several test files start from."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from srt_distill.training.distillation import SRTDistillation


def images(num, seed=0):
    """Smooth random pictures with a margin of 3: (num, 3, 38, 54) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 8, 10, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (38, 54), mode="bicubic").clamp(0, 1) * 255).byte()


def loader(num=8, batch_size=4, seed=0):
    return DataLoader(images(num, seed), batch_size=batch_size)


def fast_adamw(params):
    return torch.optim.AdamW(params, lr=3e-3, weight_decay=0.0)


def distillation(folder, **settings):
    return SRTDistillation(f"local-dir:{folder}", **{"shift_radius": 1, "optimizer": fast_adamw, **settings})


def quiet_trainer(folder, **settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    settings.setdefault("enable_checkpointing", False)
    return pl.Trainer(default_root_dir=folder, num_sanity_val_steps=0, **{**quiet, **settings})


def ready(module, trainer):
    """A module with its models, attached to a trainer, without training."""
    module._trainer = trainer
    module.configure_model()
    module._trainer = None
    return module
