"""A comparison in a TensorBoard log, read back with TensorBoard's own reader."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from srt_distill.comparison.report import log_comparison, render_markdown
from tests.comparison.test_rows import make_comparison


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_table_is_there_as_text_and_each_candidate_as_a_trial(tmp_path):
    comparison = make_comparison(0.545)
    log_comparison(comparison, tmp_path)
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
