"""The whole job on tiny data: from any collection of images to an exported model and a page, resumed and refused."""

import json
import re
import signal
from pathlib import Path

import pytest
import timm
import torch
import yaml

from srt_distill import adapt
from srt_distill.adaptation.verdict import Verdict
from srt_distill.backbone import hash_weights, save_backbone
from srt_distill.cli import main
from srt_distill.commands.fit import FitParser
from srt_distill.commands.run_parser import backbone_options
from srt_distill.runs import load_run
from srt_distill.tasks import TASKS
from srt_distill.training.callbacks import Throughput


@pytest.fixture
def quick_export(monkeypatch):
    """An export without proofs, whose own tests are elsewhere."""

    def export(run, folder, **options):
        folder.mkdir(exist_ok=True)
        save_backbone(run.student, folder)
        record = {"student_hash": hash_weights(run.student), "readout": run.settings["readout"]}
        (folder / "parity.json").write_text(json.dumps(record))

    monkeypatch.setattr("srt_distill.adaptation.job.export_student", export)


@pytest.fixture(scope="module")
def adapted(tiny_folder, photographs, tmp_path_factory):
    """One run of the command, nothing left out."""
    output = tmp_path_factory.mktemp("adapted") / "out"
    words = ["--backbone", f"local-dir:{tiny_folder}", "--images", str(photographs), "--output", str(output)]
    assert main(["adapt", *words, "--budget", "4"]) == 0
    return output


def test_a_folder_becomes_a_model_and_a_page(adapted):
    assert {path.name for path in adapted.iterdir()} >= {"model", "report.html", "config.yaml", "run"}
    model = timm.create_model(f"local-dir:{adapted / 'model'}", pretrained=True)
    run = load_run(adapted / "run" / "checkpoints" / "last.ckpt")
    assert hash_weights(model) == hash_weights(run.student)
    page = (adapted / "report.html").read_text()
    assert page.count("data:image/jpeg") == 2 and page.count("data:image/png") == 6  # two images are held out
    assert f"local-dir:{adapted / 'model'}" in page


def test_the_same_command_again_finds_everything_done(adapted, tiny_folder, photographs, capsys, monkeypatch):
    monkeypatch.setattr("srt_distill.adaptation.job.fit", None)
    monkeypatch.setattr("srt_distill.adaptation.job.export_student", None)
    words = ["--backbone", f"local-dir:{tiny_folder}", "--images", str(photographs), "--output", str(adapted)]
    assert main(["adapt", *words, "--budget", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split("?")[0] for line in lines[-3:]] == ["Did it help", "The model", "How to use"]


def test_other_arguments_in_the_same_output_are_refused(adapted, tiny_folder, photographs, capsys):
    words = ["--backbone", f"local-dir:{tiny_folder}", "--images", str(photographs), "--output", str(adapted)]
    assert main(["adapt", *words, "--budget", "5"]) == 1
    assert "budget 4 there, 5 now" in capsys.readouterr().err


def test_fit_takes_what_was_chosen_unchanged(adapted):
    parser = FitParser()
    config = parser.read(["--config", str(adapted / "config.yaml")])
    parts = parser.make_run(config, backbone_options(config.model.backbone), None)
    run = load_run(adapted / "run")
    stored = yaml.safe_load((adapted / "run" / "config.yaml").read_text())
    assert json.loads(json.dumps(dict(parts.model.hparams))) == json.loads(json.dumps(run.settings))
    assert parts.trainer["max_steps"] == run.step == 4
    assert list(parts.data.crop_size) == stored["data"]["crop_size"] == [40, 48]
    assert parts.data.window == (46, 54) and len(parts.data.source) == 10


@pytest.mark.parametrize("kind", ["list", "mp4", "several", "saved", "shards"])
def test_every_collection_of_images_ends_in_the_same_three_lines(
    kind, collections, tiny_folder, tmp_path, quick_export
):
    said = []
    done = adapt(str(tiny_folder), collections[kind], tmp_path / "out", budget=2, progress=False, say=said.append)
    assert done.verdict is not None and done.verdict.gap_closed is not None
    assert len(done.closing_lines) == 3 and done.report.is_file()
    assert any(("20" if kind == "several" else "10") in line and "images" in line for line in said)
    assert len(said) <= 24  # a screen


def test_a_stopped_run_goes_on_and_ends_as_it_would_have(tiny_folder, photographs, tmp_path, quick_export, monkeypatch):
    whole = adapt(str(tiny_folder), photographs, tmp_path / "whole", budget=4, progress=False, say=id)
    step = Throughput.on_train_batch_end

    def stop(self, trainer, *arguments):
        step(self, trainer, *arguments)
        if trainer.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Throughput, "on_train_batch_end", stop)
        stopped = adapt(str(tiny_folder), photographs, tmp_path / "stopped", budget=4, progress=False, say=id)
    assert stopped.stopped_by == signal.SIGTERM and stopped.verdict is None and not stopped.model.exists()
    resumed = adapt(str(tiny_folder), photographs, tmp_path / "stopped", budget=4, progress=False, say=id)
    ends = [load_run(done.output / "run").student.state_dict() for done in (whole, resumed)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_labelled_tasks_are_judged_in_the_end(tiny_folder, tiny_davis, photographs, tmp_path, quick_export):
    task = TASKS["davis"](root=tiny_davis, scale=0.1, num_frames=3)
    done = adapt(str(tiny_folder), photographs, tmp_path / "out", budget=1, tasks=[task], progress=False, say=id)
    assert (done.output / "comparison" / "results.json").is_file()
    assert done.verdict.comparison is not None and "student" in done.verdict.task_sentences[0]
    assert 'href="comparison/report.html"' in done.report.read_text()


def test_missing_labels_are_found_before_any_work(tiny_folder, photographs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        adapt(str(tiny_folder), photographs, tmp_path / "out", tasks=[TASKS["davis"](root=Path("nowhere"))])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("gap", "says"), [(None, "Not known"), (-0.2, "No: .*-0.20.*keep the original"), (0.4, "40%")])
def test_the_verdict_claims_no_more_than_was_measured(gap, says):
    assert re.search(says, Verdict(gap, 3, 0.5).sentence)


def test_a_folder_of_somebody_else_is_left_alone(tiny_folder, photographs, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError, match="of no adaptation; name another --output"):
        adapt(str(tiny_folder), photographs, tmp_path)


@pytest.mark.parametrize(("closed", "says"), [(0.3, "yes: .*30% nearer.*-1.05"), (-0.1, "^No: .*10% further.*keep")])
def test_relations_decide_where_they_are_taught(closed, says):
    assert re.search(says, Verdict(-1.05, 3, None, closed).sentence)
