"""What TensorBoard gets: pictures of features, and J&F on named videos."""

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srt_distill.runs import load_run
from srt_distill.training.callbacks import PANEL_HEIGHT, PANEL_NAME, DavisScores, FeaturePanels
from srt_distill.training.distillation import SRTDistillation
from tests.training.distilling import loader

LAYERS = [-1, "-1:prefix"]  # the second is no map of the image: pictures and J&F are of the first


@pytest.fixture(scope="module")
def log(tiny_folder, tiny_davis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitored")
    callbacks = [FeaturePanels(2), DavisScores(str(tiny_davis), ["cats"], every=2, scale=0.2, size_multiple=8)]
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_epochs=4,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="log", version=""),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(
        SRTDistillation(f"local-dir:{tiny_folder}", shift_radius=1, layers=LAYERS), loader(), loader(12, seed=1)
    )
    trainer.save_checkpoint(folder / "run.ckpt")
    events = EventAccumulator(str(folder / "log"))
    events.Reload()
    return events, folder


def test_pictures_are_spread_over_batches_and_steps(log):
    events, _ = log
    pictures = events.Images(PANEL_NAME)
    assert [picture.step for picture in pictures] == [2, 4, 6, 8]
    assert pictures[0].height == 2 * PANEL_HEIGHT
    assert pictures[0].width == 4 * round(PANEL_HEIGHT * 54 / 38)


def test_davis_scores_come_every_second_validation(log):
    events, folder = log
    scores = events.Scalars("davis/J&F-Mean")
    assert [score.step for score in scores] == [4, 8]
    assert all(0 <= score.value <= 1 for score in scores)
    assert load_run(folder / "run.ckpt").scores["davis/J&F-Mean"] == pytest.approx(scores[-1].value)


def test_curves_are_there(log):
    events, _ = log
    wanted = {"train/loss", "train/loss_layer_-1:prefix", "val/gap_closed", "val/equivariance_error_student"}
    assert wanted <= set(events.Tags()["scalars"])


def test_a_video_that_is_not_there_is_refused_at_once(tiny_davis):
    with pytest.raises((ValueError, FileNotFoundError), match="lions"):
        DavisScores(str(tiny_davis), ["lions"])
