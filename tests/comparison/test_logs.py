"""A comparison in a log, read back: TensorBoard's with its own reader, CSV's; W&B and MLflow by stand-ins."""

import csv
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from srt_distill.commands.compare import loggers_of_run
from srt_distill.comparison.report import log_comparison, logs, render_markdown
from tests.comparison.test_rows import make_comparison


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_table_is_there_as_text_and_each_candidate_as_a_trial(tmp_path):
    comparison = make_comparison(0.545)
    log_comparison(comparison, "tensorboard", tmp_path, tmp_path)
    (text,) = read(tmp_path).Tensors("compare/text_summary")
    assert text.tensor_proto.string_val[0].decode() == render_markdown(comparison)

    for row, cost in zip(comparison.tasks[0].rows, comparison.costs):
        trial = read(tmp_path / "compare" / row.name.lower())
        (score,) = trial.Scalars("compare/toy/quality")
        assert score.value == pytest.approx(row.scores["quality"])
        assert ("compare/toy/gain" in trial.Tags()["scalars"]) == bool(row.gains)
        content = trial.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        settings = metadata.parse_session_start_info_plugin_data(content).hparams
        assert settings["candidate"].string_value == row.name
        assert settings["passes"].number_value == cost.passes
        assert settings["toy_items"].number_value == 8


def test_csv_has_a_folder_per_candidate(tmp_path):
    comparison = make_comparison(0.545)
    log_comparison(comparison, "csv", tmp_path, tmp_path)
    for row in comparison.tasks[0].rows:
        folder = tmp_path / "csv" / "compare" / row.name.lower() / "version_0"
        (scores,) = csv.DictReader((folder / "metrics.csv").open())
        assert float(scores["compare/toy/quality"]) == pytest.approx(row.scores["quality"])
        assert f"candidate: {row.name}" in (folder / "hparams.yaml").read_text()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_others_get_a_run_per_candidate_and_one_with_tables_and_page(name, tmp_path, monkeypatch):
    runs, files = {}, []

    @contextmanager
    def opened(given, folder, title):
        assert (given, folder) == (name, tmp_path)
        run = runs.setdefault(title, {})
        yield [
            SimpleNamespace(
                log_hyperparams=lambda values: run.update(settings=values),
                log_metrics=lambda values: run.update(scores=values),
                finalize=lambda status: run.update(status=status),
            )
        ]

    monkeypatch.setattr(logs, "opened_loggers", opened)
    monkeypatch.setattr(logs, "log_files", lambda logger, paths: files.extend(path.name for path in paths))
    log_comparison(make_comparison(0.545), name, tmp_path, tmp_path)
    assert list(runs) == ["compare/teacher", "compare/srt", "compare/student", "compare"]
    assert files == ["results.md", "report.html"]
    assert runs["compare/student"]["scores"]["compare/toy/quality"] == pytest.approx(0.545)
    assert runs["compare/srt"]["settings"]["passes"] == 49
    assert all(run["status"] == "success" for run in runs.values())


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("null", ["tensorboard"]),
        ("false", ["tensorboard"]),
        ("wandb", ["wandb"]),
        ("[tensorboard, csv]", ["tensorboard", "csv"]),
        ("{class_path: pytorch_lightning.loggers.MLFlowLogger, init_args: {run_name: x}}", ["mlflow"]),
        ("{class_path: pytorch_lightning.loggers.CometLogger}", ["tensorboard"]),
    ],
)
def test_a_comparison_goes_where_the_run_was_logged(given, wanted, tmp_path):
    assert loggers_of_run(tmp_path) == ["tensorboard"]
    (tmp_path / "config.yaml").write_text(f"trainer: {{logger: {given}}}")
    assert loggers_of_run(tmp_path) == wanted
