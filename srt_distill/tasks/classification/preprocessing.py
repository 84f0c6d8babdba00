"""From a picture to the bytes that a classifier's protocol looks at.

Shape legend: H W pixels.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as image_ops


def resize_and_crop(image: Image.Image, resize: int | None, crop: int | None) -> UInt8[Tensor, "1 3 H W"]:
    """Bring the shorter side to a length (bicubic) and take the middle, as evaluations on ImageNet do.

    Args:
        image: RGB.
        resize: The shorter side, in pixels; None leaves the size as it is.
        crop: Side of the square that is taken, in pixels, black beyond the image; None takes all.
    """
    prepared: Any = image  # torchvision's signatures know tensors alone
    if resize is not None:
        prepared = image_ops.resize(prepared, [resize], InterpolationMode.BICUBIC)
    if crop is not None:
        prepared = image_ops.center_crop(prepared, [crop, crop])
    return torch.from_numpy(np.asarray(prepared).copy()).permute(2, 0, 1)[None].contiguous()
