"""Cached targets: equal to the online ones, refused when they are not this run's, computed once and no more."""

import json

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file

from srt_distill.backbone.options import BackboneOptions
from srt_distill.cli import main
from srt_distill.data import DavisFrames, UnlabeledImages
from srt_distill.images import Normalization
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.target_cache import TargetCache, describe_settings, fill_shards
from srt_distill.training.target_cache.filling import CacheLayout, prepare_folder, unfinished_shards
from srt_distill.training.target_cache.shards import digest_crop, round_to_half
from srt_distill.training.targets import CachedShifts
from tests.training.distilling import radius

HALF = {"rtol": 2**-11, "atol": 2**-25}
"""What rounding to fp16 may change: half a unit in the last of 11 bits, or half the smallest number there is."""

NUM_CROPS, NUM_SHARDS = 16, 4  # 8 training images in 2 views, 5 crops a shard


def images(root, **options):
    settings = {"crop_size": (32, 48), "margin": 1, "batch_size": 4, "num_workers": 0, "held_out": 2, "patch": 8}
    return UnlabeledImages(DavisFrames(str(root), split="train"), **(settings | {"views": 2} | options))


def adamw(params):
    return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.0)


def module(backbone, **options):
    settings = {"srt": radius(1), "layers": [0, -1], "optimizer": adamw}
    given = {"name": f"local-dir:{backbone}", "position_embedding": options.pop("position_embedding", "timm")}
    return SRTDistillation(BackboneOptions(**given), **(settings | options))


def trainer(**options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return pl.Trainer(enable_checkpointing=False, num_sanity_val_steps=0, **{**quiet, "max_epochs": 4, **options})


@pytest.fixture(scope="module")
def config(tiny_folder, tiny_davis, tmp_path_factory):
    """The YAML of a run on tiny data, with fixed views."""
    source = {"class_path": "srt_distill.data.DavisFrames", "init_args": {"root": str(tiny_davis), "split": "train"}}
    crops = {"crop_size": [32, 48], "batch_size": 4, "num_workers": 0, "held_out": 2}
    folder = tmp_path_factory.mktemp("cached")
    settings = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
        },
        "model": {
            "backbone": {"name": f"local-dir:{tiny_folder}"},
            "layers": [0, -1],
            "layer_weights": None,
            "srt": {"radius": 1, "subset": "full", "interpolation": "nearest"},
        },
        "data": {"source": source, "views": 2, **crops},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def fill(config, folder, *words):
    return main(["cache", "--config", str(config), "--output", str(folder), "--crops_per_shard", "5", *words])


@pytest.fixture(scope="module")
def cache(config):
    folder = config.parent / "targets"
    assert fill(config, folder) == 0
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def copied(cache, tmp_path):
    """A copy of the cache to do harm to."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, content in contents(cache).items():
        (folder / name).write_bytes(content)
    return folder


def refusal(cache, backbone, davis, *, settings=None, **options):
    """What a run says to a cache, having trained on nothing."""
    student = module(backbone, target=CachedShifts(cache), **(settings or {}))
    run = trainer()
    with pytest.raises((ValueError, OSError)) as refused:
        run.fit(student, datamodule=images(davis, **options))
    assert run.global_step == 0
    return str(refused.value)


def cached_and_online(cache, student, data, numbers):
    student.trainer = trainer()
    student.configure_model()
    data.setup("fit")
    opened = TargetCache(cache, describe_settings(student.target_settings, data.crop_settings))
    assert len(opened) == NUM_CROPS
    crops = next(iter(data.fixed_crops_dataloader([numbers])))
    with torch.no_grad():
        online = student.frozen.srt(student.normalization(crops))
    cached = opened(crops)
    assert len(cached) == len(online)
    for kept, target in zip(cached, online):
        assert kept.dtype == torch.float16
        torch.testing.assert_close(kept.float(), target, **HALF)
    return cached


def test_a_cached_target_is_the_online_full_grid_in_half_precision(cache, tiny_folder, tiny_davis):
    cached = cached_and_online(cache, module(tiny_folder), images(tiny_davis), [11, 0, 7])
    assert [tuple(kept.shape) for kept in cached] == [(3, 24, 4, 6)] * 2


def test_class_tokens_and_keys_are_cached_like_any_layer(config, tmp_path, tiny_folder, tiny_davis):
    specs = [-1, "-1:prefix", "1:key"]
    assert fill(config, tmp_path, "--model.layers", json.dumps(specs)) == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["model.layers"] == specs
    cached = cached_and_online(tmp_path, module(tiny_folder, layers=specs), images(tiny_davis), [4, 13])
    assert [tuple(kept.shape) for kept in cached] == [(2, 24, 4, 6), (2, 24, 1, 1), (2, 24, 4, 6)]
    says = refusal(tmp_path, tiny_folder, tiny_davis, settings={"layers": [-1, -1, "1:key"]})
    assert 'model.layers [-1, "-1:prefix", "1:key"] in the cache, [-1, -1, "1:key"] now' in says


def test_training_from_a_cache_is_training_online_without_teacher_passes(cache, tiny_folder, tiny_davis):
    def train(**settings):
        student, passes = module(tiny_folder, **settings), []
        run = trainer(limit_val_batches=0)
        student.configure_model()
        student.teacher.blocks[0].register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
        run.fit(student, datamodule=images(tiny_davis))
        return student, sum(passes)

    online, online_passes = train()
    cached, cached_passes = train(target=CachedShifts(cache))
    assert online_passes == 4 * 8 * 9  # epochs, images, shifts
    assert cached_passes == 0
    moved = torch.cat([(w - w0).flatten() for w, w0 in zip(online.student.parameters(), online.teacher.parameters())])
    apart = torch.cat([(w - v).flatten() for w, v in zip(online.student.parameters(), cached.student.parameters())])
    assert 0 < apart.norm() < 0.05 * moved.norm()


def test_held_out_images_still_meet_the_teacher(cache, tiny_folder, tiny_davis):
    run = trainer()
    run.fit(module(tiny_folder, target=CachedShifts(cache)), datamodule=images(tiny_davis))
    assert run.callback_metrics["val/gap_closed"] > 0


def test_fit_on_the_command_line(cache, config, tmp_path, capsys):
    words = ["--trainer.default_root_dir", str(tmp_path / "run"), "--model.target", "CachedShifts"]
    words += ["--model.target.folder", str(cache)]
    assert main(["fit", "--config", str(config), *words]) == 0
    assert "Trained 4 steps" in capsys.readouterr().out


def test_a_killed_command_computes_only_what_is_missing(cache, config, copied, capsys):
    whole = contents(cache)
    assert len(whole) == 1 + 2 * NUM_SHARDS
    (copied / "shard-00002.json").unlink()  # killed between a shard and its checksum
    (copied / "shard-00003.safetensors").unlink()
    kept = (copied / "shard-00000.safetensors").stat().st_mtime_ns
    assert fill(config, copied) == 0
    assert "computed now: 2 of this process's 4 shards" in capsys.readouterr().out
    assert (copied / "shard-00000.safetensors").stat().st_mtime_ns == kept
    assert contents(copied) == whole


def test_work_up_to_a_kill_is_kept(cache, tmp_path):
    manifest = json.loads((cache / "manifest.json").read_text())
    settings = {k: v for k, v in manifest.items() if k not in ("dtype", "num_crops", "crops_per_shard")}
    begun = prepare_folder(tmp_path, settings, CacheLayout(NUM_CROPS, 5))
    assert begun == manifest

    def load(batches):
        return (torch.full((len(batch), 3, 8, 8), batch[0], dtype=torch.uint8) for batch in batches)

    def compute(crops):
        if crops.max() >= 10:
            raise KeyboardInterrupt
        return (crops.float().mean(1, keepdim=True),) * 2

    with pytest.raises(KeyboardInterrupt):
        list(fill_shards(tmp_path, begun, range(NUM_SHARDS), load, compute, batch_size=4))
    assert unfinished_shards(tmp_path, begun) == [2, 3]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # no debris


@pytest.mark.parametrize("harm", ["flip a byte", "cut short"])
def test_a_damaged_shard_is_refused_by_fit_and_computed_again(cache, config, copied, tiny_folder, tiny_davis, harm):
    path = copied / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "flip a byte":
        content[-100] ^= 1
    path.write_bytes(content if harm == "flip a byte" else content[:-7])
    says = refusal(copied, tiny_folder, tiny_davis)
    assert "lacks 1 of 4 shards: shard-00001.safetensors is damaged" in says and "run srt-distill cache" in says
    assert fill(config, copied) == 0
    assert contents(copied) == contents(cache)


def test_an_incomplete_cache_is_refused(copied, tiny_folder, tiny_davis):
    (copied / "shard-00003.safetensors").unlink()
    says = refusal(copied, tiny_folder, tiny_davis)
    assert "lacks 1 of 4 shards: shard-00003.safetensors is missing" in says


def test_two_processes_fill_what_one_does(cache, config, tmp_path, tiny_folder, tiny_davis, capsys):
    folder = tmp_path / "shared"
    for process in (1, 0):
        assert fill(config, folder, "--num_processes", "2", "--process", str(process)) == 0
        assert "computed now: 2 of this process's 2 shards" in capsys.readouterr().out
        if process == 1:
            assert "lacks 2 of 4 shards" in refusal(folder, tiny_folder, tiny_davis)
    assert contents(folder) == contents(cache)


def test_a_process_that_is_not_there_is_refused(config, tmp_path, capsys):
    assert fill(config, tmp_path / "x", "--num_processes", "2", "--process", "2") == 1
    assert "process 2 is not one of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ({"layers": [-1]}, {}, "model.layers [0, -1] in the cache, [-1] now"),
        ({"norm": False}, {}, "model.norm true in the cache, false now"),
        ({"unit_tokens": True}, {}, "model.unit_tokens false in the cache, true now"),
        (
            {"srt": radius(1, interpolation="bilinear")},
            {},
            "model.srt.interpolation nearest in the cache, bilinear now",
        ),
        ({"srt": radius(2)}, {"margin": 2}, "model.srt.radius 1 in the cache, 2 now"),
        ({"srt": radius(1, border="zeros")}, {}, "model.srt.border edge in the cache, zeros now"),
        ({"srt": radius(1, subset="grid9")}, {}, "model.srt.subset full in the cache, grid9 now"),
        ({"srt": radius(1, scales=3)}, {}, "model.srt.scales 1 in the cache, 3 now"),
        ({"position_embedding": "dino"}, {}, "model.backbone.position_embedding timm in the cache, dino now"),
        ({}, {"crop_size": (32, 32)}, "data.crop_size [32, 48] in the cache, [32, 32] now"),
        ({}, {"scale": 0.9}, "data.scale 1.0 in the cache, 0.9 now"),
        ({}, {"flip": False}, "data.flip true in the cache, false now"),
        ({}, {"views": 3}, "data.views 2 in the cache, 3 now"),
        ({}, {"views": None}, "data.views 2 in the cache, null now"),
        ({}, {"seed": 5}, "data.seed 0 in the cache, 5 now"),
        ({}, {"held_out": 1}, "data.images "),
    ],
)
def test_a_cache_of_another_run_is_refused_by_name(cache, tiny_folder, tiny_davis, settings, options, says):
    message = refusal(cache, tiny_folder, tiny_davis, settings=settings, **options)
    assert f"does not match: {says}" in message and "in the cache" in message and "fill another folder" in message
    assert message.count(" in the cache, ") == 1  # and nothing else is blamed


def test_other_teachers_and_precisions_are_refused_by_name(cache, tiny_folder, tiny_davis):
    student = module(tiny_folder, target=CachedShifts(cache))
    run = trainer(precision="bf16-mixed")
    student.configure_model()
    with torch.no_grad():
        student.teacher.norm.bias.add_(1)
    student.normalization = Normalization(student.normalization.mean, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError) as refused:
        run.fit(student, datamodule=images(tiny_davis))
    for name in ("model.teacher ", "model.std ", "trainer.precision 32-true in the cache, bf16-mixed now"):
        assert name in str(refused.value)


def test_a_begun_folder_takes_no_targets_of_other_settings(config, copied, capsys):
    before = contents(copied)
    assert fill(config, copied, "--seed_everything", "3") == 1
    assert "data.seed 0 in the cache, 3 now" in capsys.readouterr().err
    assert fill(config, copied, "--crops_per_shard", "6") == 1
    assert "crops_per_shard 5 in the cache, 6 now" in capsys.readouterr().err
    assert contents(copied) == before


def test_shards_without_their_manifest_are_not_taken_for_good(config, copied, capsys):
    (copied / "manifest.json").unlink()
    assert fill(config, copied, "--model.norm", "false") == 0
    assert "computed now: 4 of this process's 4 shards" in capsys.readouterr().out


def test_a_changed_image_is_an_error_that_says_so(cache, tiny_folder, tiny_davis):
    student = module(tiny_folder, target=CachedShifts(cache))

    class Brighter(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batch[1, 0, 0, 0] += 1

    with pytest.raises(ValueError, match="not among the 16 of target cache .*image has changed.*fill a new folder"):
        trainer(callbacks=[Brighter()]).fit(student, datamodule=images(tiny_davis))


def test_a_folder_that_is_no_cache_is_refused(tmp_path, tiny_folder, tiny_davis):
    says = refusal(tmp_path, tiny_folder, tiny_davis)
    assert "no target cache in" in says and "make one with srt-distill cache" in says
    (tmp_path / "manifest.json").write_text("{")
    assert "manifest.json cannot be read" in refusal(tmp_path, tiny_folder, tiny_davis)


def test_a_cache_needs_fixed_crops_and_a_folder(config, tmp_path, capsys):
    assert fill(config, tmp_path / "x", "--data.views", "null") == 1
    assert "data.views is null" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["cache", "--config", str(config)])
    assert "output" in capsys.readouterr().err


def test_what_half_precision_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="a target reaches 70000, beyond the 65504 of fp16"):
        round_to_half(torch.tensor([[[[1.0, 70000.0]]]]))
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 100
    torch.testing.assert_close(round_to_half(maps).float(), maps, **HALF)


def test_a_digest_is_of_the_pixels_alone():
    crop = torch.randint(0, 256, (3, 8, 10), dtype=torch.uint8)
    assert digest_crop(crop) == digest_crop(crop.transpose(1, 2).contiguous().transpose(1, 2))
    other = crop.clone()
    other[2, 7, 9] += 1
    assert digest_crop(other) != digest_crop(crop)


def test_a_shard_holds_digests_beside_half_precision_targets(cache):
    shard = load_file(cache / "shard-00003.safetensors")
    assert {name: (tuple(t.shape), t.dtype) for name, t in shard.items()} == {
        "crops": ((1, 16), torch.uint8),
        "target_0": ((1, 24, 4, 6), torch.float16),
        "target_1": ((1, 24, 4, 6), torch.float16),
    }
