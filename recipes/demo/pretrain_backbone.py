"""A small plain ViT, pre-trained from scratch without labels on pictures composed from the demo's training photographs.

Shape legend: B pictures, n tokens of a crop, N matched pairs of a batch, C channels.

Claim:    dense contrast between two crops of known geometry gives features far better than random weights at following
          objects through videos made of photographs that the training never saw
Source:   dense contrastive learning (InfoNCE between tokens that show the same place; cf. VADeR, DenseCL, PixPro)
Command:  python recipes/demo/pretrain_backbone.py --output checkpoints/demo
Takes:    about 10 minutes on one CPU core, and as long again to measure; writes a timm folder with its card

A token's match is the one whose patch holds its centre in the other crop, up to half a patch off: nothing here teaches
the features to follow shifts of less than a patch more closely than recipes of this family do.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from backbone_card import measure, write_card
from jaxtyping import Bool, Float, Int, UInt8
from make_videos import make_demo_videos
from photos import load_photos
from scene import draw_scene, render
from torch import Tensor, nn
from tqdm import tqdm
from views import draw_views, match_tokens

from srt_distill.backbone import build_backbone, describe_backbone, save_backbone
from srt_distill.files import Holding, replaced_folder, require_replaceable

PATCH = 16
CROP = 128
BACKBONE = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {"depth": 4, "img_size": CROP},
    "pretrained_cfg": {
        "architecture": "vit_tiny_patch16_224",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "input_size": [3, CROP, CROP],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "num_classes": 0,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "apache-2.0",
    },
    "num_classes": 0,
}
NUM_PICTURES = 600
PICTURE_SIZE = (240, 448)
PICTURE_OBJECTS = (4, 5, 6)
PICTURE_SEED = 7  # a stream of scenes of its own, apart from those of the videos
HEAD = (512, 128)  # hidden and output features of the projection, which is thrown away afterwards
HOLDING = Holding("config.json", ("config.json", "model.safetensors", "README.md"))


def compose_pictures(num_pictures: int, seed: int) -> UInt8[Tensor, "B 3 H W"]:
    """Still scenes from the training photographs, as in the videos but for the choice of everything.

    Args:
        num_pictures: How many.
        seed: Of all choices.

    Returns:
        The pictures, (B, 3, 240, 448).
    """
    photos, pictures = load_photos("train"), []
    for index in tqdm(range(num_pictures), desc="pictures"):
        rng = np.random.default_rng([seed, PICTURE_SEED, index])
        background = index % len(photos)
        textures = photos[:background] + photos[background + 1 :]
        num_objects = PICTURE_OBJECTS[index % len(PICTURE_OBJECTS)]
        scene = draw_scene(photos[background], textures, num_objects, *PICTURE_SIZE, rng)
        pictures.append(render(scene, float(rng.random()))[0].permute(2, 0, 1))
    return torch.stack(pictures)


def contrast(
    first: Float[Tensor, "B n C"],
    second: Float[Tensor, "B n C"],
    matches: Int[Tensor, "B n"],
    inside: Bool[Tensor, "B n"],
    temperature: float,
) -> Float[Tensor, ""]:
    """InfoNCE both ways between matched tokens; every other matched token of the batch is a counterexample.

    Args:
        first: Projected tokens of one view.
        second: Of the other.
        matches: For each token of the first view its match in the second.
        inside: Whether it has one.
        temperature: Of the softmax over cosine similarities.

    Returns:
        The loss. Pairs that share a token of the second view are not held against each other.
    """
    num, tokens, channels = second.shape
    queries = F.normalize(first[inside], dim=-1)
    keys = F.normalize(second.gather(1, matches[..., None].expand(-1, -1, channels))[inside], dim=-1)
    logits = queries @ keys.T / temperature
    names = (torch.arange(num)[:, None] * tokens + matches)[inside]
    shared = (names[:, None] == names[None]) & ~torch.eye(len(names), dtype=torch.bool)
    logits = logits.masked_fill(shared, -torch.inf)
    pairs = torch.arange(len(names))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def pretrain(
    pictures: UInt8[Tensor, "B 3 H W"],
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    temperature: float,
    seed: int,
) -> nn.Module:
    """Train the backbone from scratch.

    Args:
        pictures: Unlabeled.
        num_steps: Of the optimiser, one cycle of the learning rate.
        batch_size: Pictures a step, two crops of each.
        learning_rate: Highest.
        temperature: Of the contrast.
        seed: Of the initial weights, the order and the crops.

    Returns:
        The backbone, a plain timm model without classifier.
    """
    torch.manual_seed(seed)  # timm draws the initial weights from the global source
    generator = torch.Generator().manual_seed(seed)
    model = build_backbone(BACKBONE)
    info = describe_backbone(model)
    mean, std = (torch.tensor(values)[:, None, None] for values in (info.mean, info.std))
    head = nn.Sequential(nn.Linear(info.num_features, HEAD[0]), nn.GELU(), nn.Linear(*HEAD))
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=num_steps, pct_start=0.1)
    running = 0.0
    with tqdm(total=num_steps, desc="pre-training") as bar:
        for step in range(num_steps):
            chosen = pictures[torch.randint(len(pictures), (batch_size,), generator=generator)]
            first, second = draw_views(chosen, CROP, generator)
            matches, inside = match_tokens(first, second, PATCH)
            features = model.forward_features((torch.cat([first.images, second.images]) - mean) / std)  # pyright: ignore[reportCallIssue]
            projected = head(features[:, info.num_prefix_tokens :])
            first_tokens, second_tokens = projected.chunk(2)
            loss = contrast(first_tokens, second_tokens, matches, inside, temperature)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            running += (loss.item() - running) / min(step + 1, 50)
            bar.set_postfix(loss=f"{running:.3f}", refresh=False)
            bar.update()
    return model.eval()


def main() -> None:
    """Parse the command line, compose, train, measure and write the folder with its card."""
    parser = argparse.ArgumentParser(description="Pre-train the demo's backbone from scratch, without labels.")
    parser.add_argument("--output", type=Path, default=Path("runs/demo/pretrained"), help="timm folder to write")
    parser.add_argument("--videos", type=Path, default=Path("runs/demo/videos"), help="to measure on; made if absent")
    parser.add_argument("--num_steps", type=int, default=900)
    parser.add_argument("--batch_size", type=int, default=16, help="pictures a step, two crops of each")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--temperature", type=float, default=0.1, help="of the contrast")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    require_replaceable(options.output, HOLDING)
    make_demo_videos(options.videos)
    start = time.perf_counter()
    model = pretrain(
        compose_pictures(NUM_PICTURES, options.seed),
        num_steps=options.num_steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        temperature=options.temperature,
        seed=options.seed,
    )
    minutes = (time.perf_counter() - start) / 60
    torch.manual_seed(options.seed)
    scores = measure({"random weights": build_backbone(BACKBONE), "pre-trained": model}, options.videos)
    settings = {name: value for name, value in vars(options).items() if name not in ("output", "videos")}
    with replaced_folder(options.output, HOLDING) as folder:
        save_backbone(model, folder)
        write_card(folder, settings | {"num_pictures": NUM_PICTURES}, scores, minutes)
    print(f"{options.output}: " + ", ".join(f"{name} {row['J&F-Mean']:.4f}" for name, row in scores.items()))


if __name__ == "__main__":
    main()
