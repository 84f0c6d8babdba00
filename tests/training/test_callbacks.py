"""What loggers get: pictures of features, and scores on tasks."""

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srt_distill.backbone import FeatureExtractor, describe_backbone
from srt_distill.images import Normalization
from srt_distill.runs import load_run
from srt_distill.tasks import Davis
from srt_distill.tasks.candidate import Candidate
from srt_distill.training.callbacks import PANEL_HEIGHT, PANEL_NAME, FeaturePanels, TaskScores
from tests.training.distilling import distillation, loader

LAYERS = [-1, "-1:prefix"]  # the second is no map of the image: pictures and scores are of the first


def davis(root):
    return Davis(root, sequences=("cats",), scale=0.2, size_multiple=8)


@pytest.fixture(scope="module")
def log(tiny_folder, tiny_davis, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitored")
    callbacks = [EMAWeightAveraging(decay=0.5), FeaturePanels(2), TaskScores(davis(tiny_davis), every=2)]
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
    trainer.fit(distillation(tiny_folder, layers=LAYERS), loader(), loader(12, seed=1))
    trainer.save_checkpoint(folder / "run.ckpt")
    events = EventAccumulator(str(folder / "log"))
    events.Reload()
    return events, folder


def test_pictures_are_spread_over_batches_and_steps(log):
    events, _ = log
    pictures = events.Images(PANEL_NAME)
    assert [picture.step for picture in pictures] == [2, 4, 6, 8]
    assert pictures[0].height == 2 * PANEL_HEIGHT
    assert pictures[0].width == 4 * round(PANEL_HEIGHT * 50 / 34)


def test_task_scores_come_every_second_validation_and_are_those_of_what_is_exported(log, tiny_davis, tmp_path):
    events, folder = log
    task = davis(tiny_davis)
    headline = f"{task.info.name}/{task.info.scores[0].name}"
    scores = events.Scalars(headline)
    assert [score.step for score in scores] == [4, 8]
    run = load_run(folder / "run.ckpt")
    assert run.scores[headline] == pytest.approx(scores[-1].value)
    info = describe_backbone(run.student)
    exported = Candidate("exported", FeatureExtractor(run.student), Normalization(info.mean, info.std))
    prepared = task.prepare(exported)
    outcomes = [task.judge(exported, prepared, item, tmp_path / item.name) for item in task.items()]
    # scores are logged as float32
    assert run.scores[headline] == pytest.approx(task.pool(outcomes)[task.info.scores[0].name], abs=1e-7)


def test_curves_are_there(log):
    events, _ = log
    wanted = {"train/loss", "train/loss_layer_-1:prefix", "val/gap_closed", "val/equivariance_error_student"}
    assert wanted <= set(events.Tags()["scalars"])


def test_a_video_that_is_not_there_is_refused_at_once(tiny_davis):
    with pytest.raises((ValueError, FileNotFoundError), match="lions"):
        TaskScores(Davis(tiny_davis, sequences=("lions",)))
