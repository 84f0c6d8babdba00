import logging
import os
import warnings
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.cli import LightningCLI

from srt_distill.data import ImageFolder, UnlabeledImages
from tests.data.pictures import picture, write_video


class Recorder(LightningModule):
    """Remembers what it was given."""

    def __init__(self, schedule: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.schedule = schedule
        self.seen: list[torch.Tensor] = []
        self.epochs: list[int] = []
        self.measured: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch)
        self.epochs.append(self.current_epoch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.measured.append(batch)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        if not self.schedule:
            return optimizer
        steps = self.trainer.estimated_stepping_batches  # builds the loader before a checkpoint is restored
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)]


class SaveOften(Callback):
    """Saves wherever Lightning's own checkpoints may: after a batch, after validation, at the end of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / f"step{trainer.global_step:02}.ckpt")

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"validated{trainer.global_step:02}.ckpt")

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"epoch{trainer.global_step:02}.ckpt")


def data(folder: Path, **options) -> UnlabeledImages:
    settings = {"crop_size": (16, 32), "margin": 2, "batch_size": 2, "num_workers": 0, "held_out": 2, "flip": False}
    return UnlabeledImages(ImageFolder(folder), **(settings | options))


def fit(module: LightningModule, datamodule: UnlabeledImages, ckpt_path: Path | None = None, **options) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"num_sanity_val_steps": 0} | options),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", ".*leaves|.*tensorboard|.*lr_scheduler.step")
        trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_module_gets_uint8_crops_with_their_margin(folder):
    module = Recorder()
    fit(module, data(folder), max_epochs=2)
    assert len(module.seen) == 10 and len(module.measured) == 2
    for batch in module.seen + module.measured:
        assert batch.dtype == torch.uint8 and batch.shape == (2, 3, 20, 36)
    for epoch in range(2):
        assert torch.cat(module.seen[5 * epoch : 5 * epoch + 5])[:, 2, 0, 0].unique().tolist() == list(range(9))
    assert module.measured[0][:, 2, 0, 0].tolist() == [9, 10]
    assert same(module.measured[:1], module.measured[1:]) and not same(module.seen[:5], module.seen[5:])


def test_loader_processes_change_nothing(folder):
    alone, helped = Recorder(), Recorder()
    fit(alone, data(folder), max_epochs=2)
    fit(helped, data(folder, num_workers=2), max_epochs=2)
    assert same(alone.seen, helped.seen) and same(alone.measured, helped.measured)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_steps": 9}])
def test_resumed_run_sees_what_an_uninterrupted_one_would(folder, tmp_path, num_workers, limit):
    """From any checkpoint, half-way through an epoch or at its end; the schedule is one that loses loaders' states."""
    whole = Recorder(schedule=True)
    fit(whole, data(folder, num_workers=num_workers), callbacks=[SaveOften(tmp_path)], **limit)
    steps = (2, 5, 7) if num_workers == 0 else (7,)
    checkpoints = [path for step in steps for path in tmp_path.glob(f"*{step:02}.ckpt")]
    assert len(checkpoints) >= len(steps)
    for path in checkpoints:
        resumed = Recorder(schedule=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*not resumable")
            fit(resumed, data(folder, num_workers=num_workers), ckpt_path=path, **limit)
        step = int(path.stem[-2:])
        assert same(resumed.seen, whole.seen[step:]) and resumed.epochs == whole.epochs[step:], path.stem


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_images_are_counted_named_once_and_replaced(folder, num_workers):
    for name in ("02.png", "05.png", "10.png"):
        (folder / name).write_text("damaged")
    module, datamodule = Recorder(), data(folder, num_workers=num_workers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(module, datamodule, max_epochs=3)
    named = [str(warning.message) for warning in caught if "cannot read image" in str(warning.message)]
    assert datamodule.num_unreadable == len(named) == 3
    for name in ("02.png", "05.png", "10.png"):
        assert sum(name in message and "another image takes its place" in message for message in named) == 1
    assert torch.cat(module.seen)[:, 2, 0, 0].unique().tolist() == [0, 1, 3, 4, 6, 7, 8]
    assert module.measured[0][:, 2, 0, 0].tolist() == [9, 9]


@pytest.mark.parametrize("readable", ["none", "held out"])
def test_a_training_part_with_nothing_readable_is_an_error_before_training(folder, readable):
    for number in range(11):
        if readable != ("training" if number < 9 else "held out"):
            (folder / f"{number:02}.png").write_text("damaged")
    module = Recorder()
    with pytest.raises(OSError, match=r"none of 9 images can be read"):
        fit(module, data(folder), max_epochs=1)
    assert not module.seen


def test_neighbours_take_the_place_of_a_damaged_held_out_part_and_are_not_trained_on(folder):
    for number in (7, 9, 10):
        (folder / f"{number:02}.png").write_text("damaged")
    module = Recorder()
    with pytest.warns(UserWarning, match=r"held-out part: none of 2 images .*09\.png.*06\.png, 08\.png, which are not"):
        fit(module, data(folder), max_epochs=2)
    assert set(torch.cat(module.seen)[:, 2, 0, 0].tolist()) == {0, 1, 2, 3, 4, 5}
    assert module.measured[0][:, 2, 0, 0].tolist() == [6, 8]


def test_a_damaged_held_out_part_without_neighbours_to_spare_is_done_without(tmp_path):
    picture(3).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_text("damaged")
    module = Recorder()
    with pytest.warns(UserWarning, match=r"held-out part: .*1\.png.*nothing is held out"):
        fit(module, data(tmp_path, held_out=1, batch_size=1), max_epochs=1)
    assert len(module.seen) == 1 and not module.measured


def test_names_that_are_not_utf_8_are_names(folder):
    digests = []
    for name in (b"caf\xe9.png", b"caf\xe8.png"):
        next(path for path in sorted(folder.iterdir())).rename(folder / os.fsdecode(name))
        datamodule = data(folder, held_out=0)
        datamodule.setup("fit")
        digests.append(datamodule.crop_settings.images)
        (folder / os.fsdecode(name)).rename(folder / "00.png")
    assert digests[0] != digests[1]


def test_setup_decodes_until_the_first_success(folder, monkeypatch):
    (folder / "00.png").write_text("damaged")
    loaded = []
    load = ImageFolder.load
    monkeypatch.setattr(ImageFolder, "load", lambda self, index: loaded.append(index) or load(self, index))
    datamodule = data(folder)
    with pytest.warns(UserWarning, match=r"cannot read image 00\.png"):
        datamodule.setup("fit")
    assert loaded == [0, 1, 9] and datamodule.num_unreadable == 1


def test_nothing_held_out_means_no_validation(folder):
    module = Recorder()
    fit(module, data(folder, held_out=0), max_epochs=1)
    assert len(module.seen) == 6 and not module.measured


def test_fewer_images_than_a_batch_still_train(folder):
    module = Recorder()
    fit(module, data(folder, batch_size=16, held_out=8), max_epochs=1)
    (batch,) = module.seen
    assert batch.shape == (16, 3, 20, 36)
    assert len({tuple(crop.flatten().tolist()) for crop in batch}) > 8


def test_overfitting_on_a_few_batches_repeats_them(folder):
    module = Recorder()
    with pytest.warns(UserWarning, match="overfit"):
        fit(module, data(folder), max_epochs=2, overfit_batches=2)
    assert len(module.seen) == 4 and same(module.seen[:2], module.seen[2:])


def test_loader_works_without_a_trainer(folder):
    datamodule = data(folder)
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    first = list(loader)
    loader.sampler.set_epoch(1)
    assert len(first) == len(loader) == 5 and same(first, list(datamodule.train_dataloader()))
    assert not same(first, list(loader))


def test_video_frames_in_loader_processes(tmp_path):
    from srt_distill.data import VideoFrames

    write_video(tmp_path / "v.mp4", 20)
    batches = []
    for num_workers in (0, 2):
        datamodule = UnlabeledImages(
            VideoFrames(tmp_path / "v.mp4"), 32, margin=1, batch_size=4, num_workers=num_workers, held_out=4
        )
        datamodule.setup("fit")
        batches.append([*datamodule.train_dataloader(), *datamodule.val_dataloader()])
    assert len(batches[0]) == 5 and same(*batches)


def test_small_images_are_enlarged(folder):
    picture(3, height=12, width=90).save(folder / "03.png")
    datamodule = data(folder, crop_size=32, held_out=0)
    datamodule.setup("fit")
    assert all(batch.shape[1:] == (3, 36, 36) for batch in datamodule.train_dataloader())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": 100}, "crop height 100 is not a multiple of patch side 16; use 96 or 112, or set patch"),
        ({"crop_size": (28, 30), "patch": 14}, "crop width 30 is not a multiple of patch side 14; use 28 or 42"),
        ({"crop_size": 0}, "crop height 0 is not a multiple of patch side 16; use 16 or 32"),
        ({"margin": -1}, "margin=-1 must be at least 0"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"seed": -3}, "seed=-3 must be at least 0"),
        ({"scale": 0.0}, "scale=0.0 must be above 0"),
    ],
)
def test_bad_settings(folder, options, message):
    with pytest.raises(ValueError, match=message):
        data(folder, **options)


def test_holding_everything_out(folder):
    with pytest.raises(ValueError, match="held_out=11 keeps 11 of 11 images out and leaves none for training"):
        data(folder, held_out=11).setup("fit")


def test_sources_are_picked_by_class_path_and_by_short_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["test"])

    def parse(*arguments: str) -> UnlabeledImages:
        options = {"logger": False, "accelerator": "cpu", "enable_checkpointing": False}
        cli = LightningCLI(
            Recorder,
            UnlabeledImages,
            run=False,
            save_config_callback=None,
            args=list(arguments),
            trainer_defaults=options,
        )
        return cli.datamodule

    short = parse("--data.source", "ImageFolder", "--data.source.root", str(folder), "--data.held_out", "0.1")
    assert len(short.source) == 11 and short.held_out == 0.1
    config = tmp_path / "config.yaml"
    config.write_text(
        "data:\n"
        f"  source: {{class_path: srt_distill.data.ImageFolder, init_args: {{root: {folder}, recursive: false}}}}\n"
        "  crop_size: [32, 64]\n"
        "  held_out: 3\n"
    )
    full = parse("--config", str(config))
    assert isinstance(full.source, ImageFolder) and full.window == (38, 70) and full.held_out == 3


def test_every_crop_of_a_run_with_fixed_views_is_among_the_numbered_ones(folder):
    module, datamodule = Recorder(), data(folder, views=2, flip=True)
    fit(module, datamodule, max_epochs=5)
    assert datamodule.num_fixed_crops == 18
    numbers = [range(0, 7), range(7, 9), range(9, 18)]
    batches = list(datamodule.fixed_crops_dataloader(numbers))
    assert [len(batch) for batch in batches] == [7, 2, 9]
    listed = {crop.numpy().tobytes() for crop in torch.cat(batches)}
    seen = {crop.numpy().tobytes() for crop in torch.cat(module.seen)}
    assert seen == listed and len(listed) > 9


def test_without_fixed_views_there_is_no_end_of_crops(folder):
    datamodule = data(folder)
    datamodule.setup("fit")
    with pytest.raises(ValueError, match=r"data\.views is null.*set data\.views"):
        datamodule.num_fixed_crops  # noqa: B018


def test_what_decides_the_crops_is_told(folder):
    def settings(**options):
        datamodule = data(folder, **options)
        datamodule.setup("fit")
        return datamodule.crop_settings

    base = settings(views=2)
    assert base == settings(views=2, batch_size=3, num_workers=1)
    for options in ({"views": 3}, {"seed": 1}, {"flip": True}, {"scale": 2.0}, {"crop_size": 16}, {"held_out": 1}):
        assert base != settings(**{"views": 2} | options), options


def test_views_must_be_positive(folder):
    with pytest.raises(ValueError, match="views=0 must be at least 1"):
        data(folder, views=0)
