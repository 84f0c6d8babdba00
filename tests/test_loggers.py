"""Where numbers and pictures of a run go: files read back; W&B and MLflow by stand-ins that take what these take."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srt_distill import loggers
from srt_distill.loggers import how_to_look, log_files, log_picture, make_logger, opened_loggers

NAME = "held-out image | teacher"


@pytest.fixture
def picture(generator):
    return torch.randint(0, 256, (3, 4, 6), generator=generator, dtype=torch.uint8)


class Recorder(SimpleNamespace):
    """Keeps what it is called with."""

    def __init__(self, **attributes):
        super().__init__(calls=[], **attributes)

    def record(self, *arguments, **named):
        self.calls.append((arguments, named))


class StandIn(Logger):
    """A logger of Lightning's with an experiment and other attributes as given."""

    name, version, experiment = "stand-in", 0, None

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


def pixels(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def test_csv_has_numbers_in_a_table_and_pictures_beside_it(picture, tmp_path):
    logger = make_logger("csv", tmp_path)
    logger.log_metrics({"val/gap_closed": 0.5}, 7)
    log_picture(logger, NAME, picture, 7)
    table = tmp_path / "csv" / "version_0" / "metrics.csv"
    assert how_to_look(logger, tmp_path) == str(table)
    (row,) = csv.DictReader(table.open())
    assert (float(row["val/gap_closed"]), int(row["step"])) == (0.5, 7)
    assert torch.equal(pixels(Image.open(table.parent / "pictures" / "step-000007.png")), picture)
    again = make_logger("csv", tmp_path)  # of a resumed run
    again.log_metrics({"val/gap_closed": 0.6}, 8)
    assert table.is_file() and how_to_look(again, tmp_path) == str(tmp_path / "csv" / "version_1" / "metrics.csv")


def test_tensorboard_has_the_bytes_of_a_picture(picture, tmp_path):
    logger = make_logger("tensorboard", tmp_path / "run" / "round-1")
    log_picture(logger, NAME, picture, 3)
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path / "run" / "round-1" / "tensorboard"))
    events.Reload()
    (found,) = events.Images(NAME)
    assert (found.step, found.height, found.width) == (3, 4, 6)
    assert how_to_look(logger, tmp_path / "run") == f"tensorboard --logdir {tmp_path / 'run'}"


def test_wandb_gets_a_picture_by_key_and_step(picture):
    kept = Recorder()
    log_picture(StandIn(log_image=kept.record), NAME, picture, 3)
    ((_, named),) = kept.calls
    assert (named["key"], named["step"]) == (NAME, 3)
    assert torch.equal(pixels(named["images"][0]), picture)


def test_mlflow_gets_a_picture_under_a_name_that_it_takes(picture):
    client = Recorder()
    client.log_image = client.record
    log_picture(StandIn(experiment=client, run_id="abc"), NAME, picture, 3)
    (((run_id, image), named),) = client.calls
    assert (run_id, named) == ("abc", {"key": "held-out image - teacher", "step": 3})
    assert torch.equal(pixels(image), picture)


def test_a_logger_that_takes_no_pictures_is_left_alone(picture):
    log_picture(StandIn(experiment=object()), NAME, picture, 3)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_remedy(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {name}"):
        make_logger(name, tmp_path)


def test_a_logger_of_no_known_name_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="'tensorbord' is none of tensorboard, csv, wandb, mlflow"),
        opened_loggers("tensorbord", tmp_path),
    ):
        pass


def test_wandb_and_mlflow_are_set_up_from_the_environment_and_closed(monkeypatch, tmp_path):
    made, finished = {}, []
    package = SimpleNamespace(get_tracking_uri=lambda: "http://store", finish=lambda: finished.append(True))
    monkeypatch.setattr(loggers, "_import", lambda name: package)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(loggers, name, lambda *a, n=name, **k: StandIn(made=made.setdefault(n, (a, k))))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")
    with opened_loggers(["wandb", "mlflow"], tmp_path / "runs" / "mine"):
        assert not finished
    assert finished
    assert made["WandbLogger"] == (("runs/mine",), {"save_dir": tmp_path / "runs" / "mine", "project": "srt-distill"})
    assert made["MLFlowLogger"] == (("birds", "runs/mine"), {"tracking_uri": "http://store"})


def test_files_and_hints_of_wandb_and_mlflow(monkeypatch, tmp_path):
    page, table = tmp_path / "report.html", tmp_path / "results.md"
    page.write_text("<h1>page</h1>")
    table.write_text("# table")
    monkeypatch.setattr(loggers, "_import", lambda name: SimpleNamespace(Html=lambda text: ("html", text)))
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(loggers, name, type(name, (StandIn,), {}))
    run = Recorder(offline=True, dir=tmp_path / "offline-run-1" / "files", url="https://online")
    run.log = run.save = run.record
    wandb = loggers.WandbLogger(experiment=run)
    log_files(wandb, [page, table])
    assert run.calls[0] == (({"report": ("html", "<h1>page</h1>")},), {})
    assert run.calls[1][0] == (str(table),)
    assert how_to_look(wandb, tmp_path) == f"wandb sync {tmp_path / 'offline-run-1'}"
    run.offline = False
    assert how_to_look(wandb, tmp_path) == "https://online"

    client = Recorder(tracking_uri="sqlite:///mlflow.db")
    client.log_artifact = client.record
    mlflow = loggers.MLFlowLogger(experiment=client, run_id="abc", experiment_id="1")
    log_files(mlflow, [page])
    assert client.calls == [(("abc", str(page)), {})]
    assert how_to_look(mlflow, tmp_path) == "mlflow ui --backend-store-uri sqlite:///mlflow.db"
    client.tracking_uri = "http://store"
    assert how_to_look(mlflow, tmp_path) == "http://store/#/experiments/1/runs/abc"


def test_loggers_that_are_made_already_and_none_at_all_pass_through(tmp_path):
    made = CSVLogger(tmp_path)
    for given in (made, False, [made]):
        with opened_loggers(given, tmp_path) as found:
            assert found is given
    for given in (None, True):
        with opened_loggers(given, tmp_path) as (found,):
            assert isinstance(found, TensorBoardLogger)
    with opened_loggers([made, "tensorboard"], tmp_path) as (first, second):
        assert first is made
        assert isinstance(second, TensorBoardLogger)
