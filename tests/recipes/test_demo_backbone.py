"""The demo's backbone: the committed folder loads anywhere and says what it is; the recipe that made it is right."""

import json
import re
import sys
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "demo"))

import backbone_card
import photos
import pretrain_backbone
import views

from srt_distill.backbone import build_backbone, describe_backbone, load_backbone

FOLDER = Path(__file__).resolve().parents[2] / "checkpoints" / "demo"


def test_the_folder_is_small_and_loads_through_timm_alone():
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    model = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()
    ours = load_backbone(f"local-dir:{FOLDER}")
    for key, value in model.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.forward_features(images), ours.forward_features(images))


def test_the_folder_is_what_the_recipe_builds():
    info = describe_backbone(load_backbone(f"local-dir:{FOLDER}"))
    assert (info.patch_size, info.num_layers, info.num_features) == (16, 4, 192)
    assert info.num_parameters <= 2_000_000
    built = build_backbone(pretrain_backbone.BACKBONE)
    assert describe_backbone(built) == info
    config = json.loads((FOLDER / "config.json").read_text())
    assert "num_classes" not in config["model_args"]


def test_the_card_says_how_it_was_made_and_what_it_scores():
    card = (FOLDER / "README.md").read_text()
    assert "python recipes/demo/pretrain_backbone.py --output checkpoints/demo --num_steps" in card
    for file in photos.PHOTOS["train"]:
        assert file in card
    for file in photos.PHOTOS["val"]:
        assert file not in card
    scores = {
        name: float(value) for name, value in re.findall(r"^\| ([\w ,=-]+?) \| (0\.\d+) \|", card, flags=re.MULTILINE)
    }
    assert scores["pre-trained"] > scores["random weights"] + 0.1


def test_a_card_holds_command_photographs_and_scores(tmp_path):
    row = {"J&F-Mean": 0.25, "J-Mean": 0.125, "F-Mean": 0.375}
    backbone_card.write_card(tmp_path, {"num_steps": 7, "seed": 3}, {"pre-trained": row}, 12.4)
    card = (tmp_path / "README.md").read_text()
    assert "pretrain_backbone.py --output checkpoints/demo --num_steps 7 --seed 3" in card
    assert "| pre-trained | 0.2500 | 0.1250 | 0.3750 |" in card
    assert "12 minutes" in card


def position_picture(height, width):
    """A picture whose red and green say where a pixel is, so that a crop tells the place it came from."""
    rows = torch.linspace(0, 255, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 255, width)[None].expand(height, width)
    return torch.stack([rows, columns, torch.zeros(height, width)]).byte()[None]


def test_matched_tokens_show_the_same_place(monkeypatch, generator):
    """Read the place off the colours of two crops instead of off the geometry that made them."""
    monkeypatch.setattr(views, "_recolour", lambda images, generator: images)
    height, width, crop, patch = 240, 448, 128, 16
    pictures = position_picture(height, width).expand(6, -1, -1, -1)
    first, second = views.draw_views(pictures, crop, generator)
    matches, inside = views.match_tokens(first, second, patch)
    assert inside.any()
    assert not inside.all()

    def places(view):
        means = F.avg_pool2d(view.images, patch)[:, :2].flatten(2)
        return means * torch.tensor([height - 1.0, width - 1.0])[:, None]

    here = places(first)
    there = places(second).gather(2, matches[:, None].expand(-1, 2, -1))
    distance = (here - there).norm(dim=1)[inside]
    reach = patch * views.SCALES[1] * 2**0.5  # a token matches within half a patch either way, magnified
    assert distance.median() < reach / 2
    assert (distance < reach).float().mean() > 0.9  # the rest is mirrored at the picture's border


def test_tokens_outside_the_other_view_have_no_match(generator):
    images = torch.zeros(1, 3, 64, 64)
    still = torch.eye(2)[None]
    first = views.View(images, still, torch.tensor([[32.0, 32.0]]))
    second = views.View(images, still, torch.tensor([[64.0, 32.0]]))  # 32 pixels to the right
    matches, inside = views.match_tokens(first, second, 16)
    assert inside.view(4, 4).tolist() == [[False, False, True, True]] * 4
    assert matches.view(4, 4)[:, 2:].tolist() == [[0, 1], [4, 5], [8, 9], [12, 13]]


def loop_contrast(first, second, matches, inside, temperature):
    pairs = [(b, n) for b in range(first.shape[0]) for n in range(first.shape[1]) if inside[b, n]]
    queries = [F.normalize(first[b, n], dim=0) for b, n in pairs]
    keys = [F.normalize(second[b, matches[b, n]], dim=0) for b, n in pairs]
    names = [(b, int(matches[b, n])) for b, n in pairs]
    total = 0.0
    for i in range(len(pairs)):
        for one, others in ((queries[i], keys), (keys[i], queries)):
            exps = [
                torch.exp(one @ other / temperature) for j, other in enumerate(others) if j == i or names[j] != names[i]
            ]
            total -= torch.log(torch.exp(one @ others[i] / temperature) / sum(exps))
    return total / (2 * len(pairs))


def test_contrast_is_infonce_without_shared_tokens(generator):
    first, second = (torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    matches = torch.randint(5, (2, 5), generator=generator)
    matches[0, :2] = 3  # two tokens share a match
    inside = torch.tensor([[True] * 5, [True, False, True, True, False]])
    expected = loop_contrast(first, second, matches, inside, 0.2)
    assert pretrain_backbone.contrast(first, second, matches, inside, 0.2).item() == pytest.approx(expected.item())


def test_pretraining_is_seeded():
    pictures = pretrain_backbone.compose_pictures(4, seed=0)
    assert not torch.equal(pictures, pretrain_backbone.compose_pictures(4, seed=1))

    def train(num_steps, seed):
        model = pretrain_backbone.pretrain(
            pictures, num_steps=num_steps, batch_size=2, learning_rate=1e-3, temperature=0.1, seed=seed
        )
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    one = train(2, 1)
    assert torch.equal(train(2, 1), one)
    assert not torch.equal(train(2, 2), one)
    assert not torch.equal(train(3, 1), one)
