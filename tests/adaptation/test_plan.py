"""What a plan takes of a GPU: the fused optimiser always, compiled blocks where they pay. A CPU stands in for it."""

from dataclasses import replace

import pytest

from srt_distill.adaptation.budget import Budget
from srt_distill.adaptation.machine import Machine, StepTime, compiling_pays, look_at_machine
from srt_distill.adaptation.plan import make_model, make_plan
from srt_distill.backbone.options import BackboneOptions
from srt_distill.data.recognition import recognise_images

HUNDRED_STEPS = Budget(steps=100)


@pytest.fixture
def plan(tiny_folder, photographs, tmp_path, monkeypatch):
    """Make a plan under given times of a step: plain, and with compiled blocks (an error, where it is one)."""

    def make(plain, compiled=None, *, gpu=True, budget=HUNDRED_STEPS):
        def time_step(module, crops, machine):
            found = compiled if module.execution.compile else plain
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr("srt_distill.adaptation.plan.time_step", time_step)
        monkeypatch.setattr(Machine, "is_gpu", gpu)
        backbone = BackboneOptions(f"local-dir:{tiny_folder}")
        found, machine = recognise_images([str(photographs)]), replace(look_at_machine("cpu"), num_workers=0)
        return make_plan(backbone, found, machine, budget, tmp_path, 0)

    return make


def test_a_cpu_gets_neither_compiled_blocks_nor_the_fused_optimiser(plan):
    chosen = plan(StepTime(60.0, 60.0), gpu=False)
    assert "execution" not in chosen.settings["model"]
    assert "fused" not in chosen.settings["model"]["optimizer"]["init_args"]


def test_a_gpu_gets_both_where_compiling_saves_more_than_it_takes(plan):
    chosen = plan(StepTime(8.0, 9.0), StepTime(4.0, 60.0))
    assert chosen.settings["model"]["execution"] == {"compile": True}
    assert chosen.settings["model"]["optimizer"]["init_args"]["fused"] is True
    assert "fused AdamW, compiled blocks (2.00 times as fast)" in chosen.lines["machine"]
    assert "4.00 s a step" in chosen.lines["batch"]
    model = make_model(chosen.settings)  # a config that is a run
    model.configure_model()
    optimizer = model._make_optimizer(model.student.parameters())
    assert optimizer.defaults["fused"] and optimizer.defaults["lr"] == 1e-4


@pytest.mark.parametrize(
    ("plain", "compiled"),
    [
        (StepTime(8.0, 9.0), StepTime(7.9, 60.0)),  # saves 10 s of the run, takes 52
        (StepTime(8.0, 9.0), RuntimeError("no compiler")),
        (StepTime(1.0, 1.0), AssertionError("not worth a try: 100 s of training")),
    ],
)
def test_a_gpu_gets_no_compiled_blocks_where_they_do_not_pay(plan, plain, compiled):
    chosen = plan(plain, compiled)
    assert "execution" not in chosen.settings["model"]
    assert "compiled" not in chosen.lines["machine"]


def test_compiling_counts_in_a_budget_of_time(plan):
    chosen = plan(StepTime(2.0, 2.0), StepTime(1.0, 61.0), budget=Budget(seconds=1260.0))
    assert chosen.settings["trainer"]["max_steps"] == 1260 - 60 - 61


def test_compiling_pays_by_the_length_of_a_run():
    plain, compiled = StepTime(1.0, 1.0), StepTime(0.5, 50.5)
    assert not compiling_pays(plain, compiled, 100)
    assert compiling_pays(plain, compiled, 101)


@pytest.mark.parametrize(("number", "said"), [(1, "1 thread)"), (2, "2 threads)")])
def test_one_thread_is_no_threads(monkeypatch, number, said):
    monkeypatch.setattr("torch.get_num_threads", lambda: number)
    assert look_at_machine("cpu").name.endswith(said)
