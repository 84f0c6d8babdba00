"""The untouched classifier of a backbone, on the class token that a feature extractor reads.

Shape legend: B images, C channels, k prefix tokens, K classes.

What a student's class token still means to the classifier that its teacher was trained with can be asked without
running the backbone again: `classifier(model)(FeatureExtractor(model, ("-1:prefix",))(images)[0].flatten(1))`.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from srt_distill.backbone.features import describe_backbone

Classifier = Callable[[Float[Tensor, "B _kC"]], Float[Tensor, "B _K"]]


def classifier(model: nn.Module) -> Classifier | None:
    """Find the function from a backbone's prefix tokens to its logits, where the classifier reads nothing else.

    Args:
        model: A backbone. The function uses its classifier as it is when called, on the model's device.

    Returns:
        Prefix tokens of the last block after the final norm, class token first, side by side as the layer `-1:prefix`
        has them, to what `model(images)` gives: for models that pool by class token (ViT, DeiT, DINO and EVA with a
        classifier) and for distilled DeiTs, whose two heads are averaged. None for models without classifier or
        without a class token, and for those that average patch tokens or pool by attention.
    """
    info = describe_backbone(model)
    traits: Any = model  # timm's attributes, unknown to nn.Module
    by_token = getattr(model, "global_pool", None) == "token" or isinstance(model, VisionTransformerDistilled)
    if not (info.has_head and info.num_prefix_tokens and by_token):
        return None

    def classify(prefix: Tensor) -> Tensor:
        return traits.forward_head(prefix.unflatten(1, (info.num_prefix_tokens, -1)))

    return classify
