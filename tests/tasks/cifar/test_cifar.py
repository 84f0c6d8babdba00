"""CIFAR-10 ResNets: the released weights give the counted accuracies, and SRT before the head is what it says."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from srt_distill.ensemble.shifts import grid_shifts
from srt_distill.images import IMAGENET
from srt_distill.tasks import cifar
from srt_distill.tasks.cifar import CifarResNet, cifar_candidates, load_resnet
from srt_distill.tasks.cifar.sweep import cell_weights, sweep_radii
from srt_distill.tasks.classification import UntouchedHead


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    state = CifarResNet(1).state_dict()
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            value.normal_()
    save_file(state, tmp_path / "resnet8.safetensors")
    return tmp_path / "resnet8.safetensors"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def logits_by_hand(state, images):
    """The network written out from its tensors."""

    def norm(x, name):
        parts = (state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias"))
        mean, var, weight, bias = parts
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    x = F.conv2d(images, state["conv1.weight"], padding=1)
    x = norm(x, "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        stride = 1 if stage == 1 else 2
        y = norm(F.conv2d(x, state[f"layer{stage}.0.conv1.weight"], stride=stride, padding=1), f"layer{stage}.0.bn1")
        y = norm(F.conv2d(y.clamp(min=0), state[f"layer{stage}.0.conv2.weight"], padding=1), f"layer{stage}.0.bn2")
        shortcut = x
        if stage > 1:
            zeros = torch.zeros(len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3] // 2)
            shortcut = torch.cat([zeros, x[:, :, ::2, ::2], zeros], 1)
        x = (y + shortcut).clamp(min=0)
    return x, x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def test_the_network_is_the_one_written_out(weights):
    model, images = load_resnet(weights), torch.randn(2, 3, 32, 32)
    maps, logits = logits_by_hand(load_file(weights), images)
    torch.testing.assert_close(model.features(images)[0], maps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(images), logits, rtol=1e-4, atol=1e-5)
    assert model.depth == 8 and maps.shape == (2, 64, 8, 8)


def classify(candidate, images):
    (prefix,) = candidate.maps_at(images, ("-1:prefix",))
    return candidate.classify(prefix.flatten(1))


@pytest.mark.parametrize("radius", [1, 3, 4])
@torch.no_grad()
def test_circular_srt_is_the_mean_of_logits_over_circular_shifts(weights, radius):
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    found = {c.name: c for c in cifar_candidates(weights, (radius,))}
    circular = classify(found[f"SRT d={radius} circular"], images)
    plain = found["ResNet-8"]
    shifted = [classify(plain, images.roll(shift, (-2, -1))) for shift in grid_shifts(radius)]
    torch.testing.assert_close(circular, torch.stack(shifted).mean(0), rtol=1e-4, atol=1e-5)
    edge, logits = (classify(found[name], images) for name in (f"SRT d={radius} edge", f"mean of logits d={radius}"))
    assert 0 < (edge - logits).abs().max() < 1
    assert found[f"SRT d={radius} edge"].passes == (2 * radius + 1) ** 2


@torch.no_grad()
def test_the_edge_rule_weighs_end_cells_by_the_shift(weights):
    """Per axis: one end 1 - |s|/4, the other 1 + |s|/4, all others 1 (a mean and a linear layer follow)."""
    model = load_resnet(weights)
    (maps,) = model.features(torch.randn(1, 3, 32, 32))
    extract = cifar.srt_before_head(lambda _: (maps,), 0, "edge")
    assert torch.equal(extract(torch.zeros(1, 3, 32, 32))[0], maps)
    from srt_distill.ensemble.shifts import unshift_tokens

    moved = unshift_tokens(maps, (0, 3), 4)
    weight = torch.ones(8)
    weight[0], weight[-1] = 1 - 3 / 4, 1 + 3 / 4
    torch.testing.assert_close(moved.mean((2, 3)), (maps * weight).mean((2, 3)))


@torch.no_grad()
def test_radius_zero_is_the_single_pass(weights):
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    single, *others = cifar_candidates(weights, (0,))
    assert all(torch.equal(classify(single, images), classify(other, images)) for other in others)


def test_files_that_hold_no_such_network_are_refused(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_resnet(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_resnet(tmp_path / "text.safetensors")
    state = load_file(weights)
    del state["layer2.0.bn1.weight"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"lacks \['layer2.0.bn1.weight'\]"):
        load_resnet(tmp_path / "less.safetensors")
    save_file({**load_file(weights), "conv1.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"conv1\.weight of shape \(32, 3, 3, 3\)"):
        load_resnet(tmp_path / "wide.safetensors")


def test_only_what_lies_before_the_head_is_read(weights):
    with pytest.raises(ValueError, match="read before its head"):
        cifar_candidates(weights, ())[0].maps_at(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ("8:key",))


@pytest.mark.parametrize(("depth", "right"), [(20, 915), slow(32, 928), slow(56, 926)])
@torch.no_grad()
def test_released_networks_have_the_counted_accuracies(shared_data, depth, right):
    """All of 1,000 images in a few batches; the task's own reader and preprocessing."""
    task = UntouchedHead(shared_data / "cifar10_test_1000.parquet", split="test", resize=None, crop=None)
    (candidate,) = cifar_candidates(shared_data / "weights" / f"cifar10_resnet{depth}.safetensors", ())
    images = torch.cat([task.view(candidate, item) for item in task.items()])
    predicted = torch.cat([classify(candidate, batch).argmax(1) for batch in images.split(250)])
    assert int((predicted == torch.tensor(task._images.labels)).sum()) == right


@torch.no_grad()
def test_the_sweep_over_radii_gives_the_logits_of_every_candidate(weights):
    images = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    swept = dict(sweep_radii(load_resnet(weights), IMAGENET(images), 4))
    candidates = cifar_candidates(weights, (1, 2, 3, 4))
    assert set(swept) == {candidate.name for candidate in candidates}
    for candidate in candidates:
        torch.testing.assert_close(swept[candidate.name], classify(candidate, images), rtol=1e-4, atol=1e-5)


def test_weights_of_moved_cells_are_those_of_the_closed_form():
    assert cell_weights((0, 3), (1, 8), "edge").tolist() == [[0.25, 1, 1, 1, 1, 1, 1, 1.75]]
    assert cell_weights((-4, 0), (4, 1), "edge")[:, 0].tolist() == [2, 1, 1, 0]
    assert torch.equal(cell_weights((2, -3), (8, 8), "circular"), torch.ones(8, 8, dtype=torch.float64))
