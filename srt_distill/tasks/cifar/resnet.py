"""Residual networks for CIFAR-10 with option A shortcuts (He et al., CVPR 2016, Sect. 4.2): 20, 32, 56 … layers.

Shape legend: B images, C channels, H W pixels, h w cells of 4 x 4 pixels, K classes.

What is not timm's: three stages of 16, 32 and 64 channels at strides 1, 2 and 4, and shortcuts without parameters that
keep every second pixel and pad channels with zeros. Keys are those of the public implementations' state dicts.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

STRIDE = 4  # pixels per cell of the last map
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions and a shortcut.

    Args:
        channels_in: C of the input.
        channels: C of the output.
        stride: Of the first convolution and the shortcut.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - channels_in

    def forward(self, maps: Float[Tensor, "B _C _H _W"]) -> Float[Tensor, "B _C2 _H2 _W2"]:
        """Apply the block."""
        shortcut = maps[..., :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        inner = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(inner)) + shortcut)


class CifarResNet(nn.Module):
    """A residual network of 6n + 2 layers.

    Args:
        blocks_per_stage: n; 3, 5 and 9 for ResNet-20, -32 and -56.
        num_classes: K.
    """

    def __init__(self, blocks_per_stage: int, num_classes: int = 10) -> None:
        super().__init__()
        self.depth = 6 * blocks_per_stage + 2
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(Block(w if i else before, w, 1 if i else stride) for i in range(blocks_per_stage)))
            for before, w, stride in zip((WIDTHS[0], *WIDTHS), WIDTHS, (1, 2, 2), strict=False)
        )
        self.linear = nn.Linear(WIDTHS[-1], num_classes)

    def features(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B C h w"]]:
        """Give the last map before the head; as a function, an extractor."""
        maps = F.relu(self.bn1(self.conv1(images)))
        return (self.layer3(self.layer2(self.layer1(maps))),)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
        """Classify normalised images: mean over positions, then the linear layer."""
        return self.linear(self.features(images)[0].mean((2, 3)))


def load_resnet(path: Path) -> CifarResNet:
    """Load a released network; its depth is told by its keys.

    Args:
        path: A .safetensors file with the keys of the public implementations.

    Returns:
        The network in eval mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no such network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the .safetensors file of a CIFAR-10 ResNet")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file ({error}); convert the release's state dict first"
        ) from error
    state = {key.removeprefix("module."): value for key, value in state.items()}
    blocks = {key.split(".")[1] for key in state if key.startswith("layer1.")}
    classes: Any = state.get("linear.bias", torch.zeros(10))
    model = CifarResNet(max(len(blocks), 1), len(classes))
    own = model.state_dict()
    odd = next((key for key, value in state.items() if key in own and value.shape != own[key].shape), None)
    if odd is not None:
        raise ValueError(
            f"{path} has {odd} of shape {tuple(state[odd].shape)}, a CIFAR-10 ResNet {tuple(own[odd].shape)}; give a "
            "released ResNet-20, -32 or -56"
        )
    found = model.load_state_dict(state, strict=False)
    missing = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        raise ValueError(
            f"{path} is not a CIFAR-10 ResNet with option A shortcuts: it lacks {missing[:3]}, and has "
            f"{found.unexpected_keys[:3]} besides; give a released ResNet-20, -32 or -56"
        )
    return model.eval()
