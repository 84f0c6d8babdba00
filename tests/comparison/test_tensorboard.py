"""A comparison in a TensorBoard log, read back with TensorBoard's own reader."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from srt_distill.comparison.report import log_comparison, render_markdown
from tests.evaluation.test_methods import SETTINGS, make_comparison


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_table_is_there_as_text_and_each_row_as_a_trial(tmp_path):
    comparison = make_comparison((0.5, 0.65))
    comparison.settings.update({**SETTINGS, "scale": 0.5})
    log_comparison(comparison, tmp_path)
    (text,) = read(tmp_path).Tensors("compare/text_summary")
    assert text.tensor_proto.string_val[0].decode() == render_markdown(comparison)

    for row in comparison.rows:
        trial = read(tmp_path / "compare" / row.name.lower())
        (score,) = trial.Scalars("compare/J&F-Mean")
        assert score.value == pytest.approx(row.result.scores["J&F-Mean"])
        (gain,) = trial.Scalars("compare/gain")
        assert gain.value == pytest.approx(comparison.gain(row), abs=1e-6)
        content = trial.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        settings = metadata.parse_session_start_info_plugin_data(content).hparams
        assert settings["method"].string_value == row.name
        assert settings["passes"].number_value == row.passes
        assert settings["sequences"].string_value == "cats, dogs"
