"""From models and options to candidates: the single pass, SRT, the baselines of the paper's tables, a student.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from torch import Tensor

from srt_distill.backbone import (
    backbone_normalization,
    overlap_tokens,
)
from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.backbone.resumed import SplitBackbone
from srt_distill.comparison.models import Model, load_model
from srt_distill.ensemble import (
    ConfidentResonance,
    FineResonance,
    PerturbationMean,
    ResumedResonance,
    ShiftStatistic,
    StochasticResonance,
    WideShiftMean,
    whole_patch_shifts,
)
from srt_distill.ensemble.baselines import (
    InterpolatedFeatures,
    Interpolation,
    NaiveEnsemble,
    PooledFeatures,
    ShiftedViews,
)
from srt_distill.ensemble.options import SRTOptions
from srt_distill.ensemble.positional_projection import PositionalProjection
from srt_distill.ensemble.scales import average_views, check_scales
from srt_distill.ensemble.shifts import check_radius, subset_shifts
from srt_distill.extractor import Extractor
from srt_distill.runs import ThroughReadout
from srt_distill.tasks import Candidate
from srt_distill.tasks.candidate import ReadFeatures

TEACHER, STUDENT = "teacher", "student"
SINGLE_PASS = SRTOptions(radius=0)

Baseline = Literal[
    "naive_ensemble",
    "overlapping_tokens",
    "overlapping_tokens_pooled",
    "output_ensemble",
    "bilinear",
    "bicubic",
    "pyramid",
    "positional_projection",
    "whole_patch_mean",
]
"""naive_ensemble: mean features of colour-jittered copies, as many as SRT has passes (Table 1).
overlapping_tokens: one pass with a smaller patch stride, on the finer grid that it gives (Table 1).
overlapping_tokens_pooled: the same averaged back onto the usual grid.
output_ensemble: SRT's views, but the outputs made of them are averaged instead of features ("OE").
bilinear, bicubic: one pass, interpolated to pixels and pooled back (Table 8).
pyramid: one pass, each token beside the mean of its neighbourhood, twice the channels: the readout of students.
positional_projection: one pass, less the directions that a black image's features span (INSID3).
whole_patch_mean: mean over shifts by a whole patch each way and flips, which see nothing inside a token (PH-Reg).
"""


def single_pass(name: str, model: Model) -> Candidate:
    """Judge one forward pass."""
    return model.candidate(name, lambda extract: extract)


def srt_reader(model: Model, srt: SRTOptions) -> ReadFeatures:
    """Make the function that reads a model's layers under SRT.

    Raises:
        ValueError: If the radius is not smaller than the patch, or the options do not fit each other or the model.
    """
    info = model.info
    check_radius(srt.radius, info.patch_size, info.name)
    check_scales(srt.scales, info.fixed_size, info.name)
    cells = info.patch_size if srt.grid == "pixels" else srt.grid

    def mean(extract: Extractor) -> StochasticResonance:
        views = average_views(extract, srt.flip, srt.scales, info.patch_size)
        return StochasticResonance(views, srt.radius, srt.border, srt.views_per_batch, subset=srt.subset)

    def read(layers: tuple[int | str, ...], norm: bool) -> Extractor:
        if srt.resume_at is not None:
            split = SplitBackbone(model.module, layers, norm, srt.resume_at)

            def resume(images: Tensor, averages: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                return model.run(lambda view: split.resume(view, averages))(images)

            return model.finish(ResumedResonance(mean(model.run(split.enter)), resume, srt.prefix), layers)
        averaged = mean(model.read(layers, norm))
        if srt.statistic == "confident":
            return ConfidentResonance(averaged)
        if srt.statistic != "mean":
            return ShiftStatistic(averaged, srt.statistic, cells)
        return averaged if cells == 1 else FineResonance(averaged, cells)

    return read


def under_srt(name: str, model: Model, srt: SRTOptions) -> Candidate:
    """Put a model's features under SRT; radius 0 without further views is the single pass, to the bit.

    Raises:
        ValueError: If the options do not fit; see `srt_reader`.
    """
    read = srt_reader(model, srt)
    shifts = StochasticResonance(lambda images: (images,), srt.radius, srt.border, subset=srt.subset).shifts
    passes = len(shifts) * (1 + srt.flip) * srt.scales
    details = {key: value for key, value in asdict(srt).items() if key != "views_per_batch"}
    return model.reading(name, read, passes, srt=details)


def baseline_over(model: Model, baseline: Baseline, srt: SRTOptions, token_stride: int | None = None) -> Candidate:
    """Put a baseline of the paper's tables over a model's features.

    Args:
        model: The model.
        baseline: Which.
        srt: Radius, subset and border decide the passes of both ensembles.
        token_stride: Of overlapping tokens, in pixels; None for half the patch.

    Raises:
        ValueError: If an ensemble has no radius, or the model's tokens cannot overlap.
    """
    patch = model.info.patch_size
    if baseline in ("bilinear", "bicubic"):
        return model.candidate(f"{baseline} features", lambda e: InterpolatedFeatures(e, baseline), baseline=baseline)
    if baseline == "pyramid":
        pyramid: ReadFeatures = lambda layers, norm: ThroughReadout(model.read(layers, norm), tuple(layers), baseline)  # noqa: E731
        return model.reading("pyramid of features", pyramid, baseline=baseline)
    if baseline in ("overlapping_tokens", "overlapping_tokens_pooled"):
        stride = token_stride or patch // 2
        finer = replace(model, module=overlap_tokens(model.module, stride))
        pooled = baseline == "overlapping_tokens_pooled"
        name = f"overlapping tokens, stride {stride}" + ", pooled" * pooled
        wrap = (lambda e: PooledFeatures(e, patch)) if pooled else (lambda e: e)
        return finer.candidate(name, wrap, baseline=baseline, token_stride=stride)
    if baseline == "positional_projection":
        normalization = backbone_normalization(model.module)
        wrap = lambda e: PositionalProjection(e, normalization)  # noqa: E731
        return model.candidate("positions projected out", wrap, baseline=baseline, share=PositionalProjection.share)
    if baseline == "whole_patch_mean":
        shifts = whole_patch_shifts(patch)
        wrap = lambda e: WideShiftMean(PerturbationMean(e), shifts)  # noqa: E731
        return model.candidate("whole-patch mean", wrap, 2 * len(shifts), baseline=baseline)
    if not 1 <= srt.radius < patch:
        raise ValueError(
            f"baseline {baseline} with shift radius {srt.radius}: it gets as many passes as SRT; use a radius of 1 to "
            f"{patch - 1}, the paper's is 3"
        )
    shifts = {"radius": srt.radius, "border": srt.border, "subset": srt.subset}
    if baseline == "naive_ensemble":
        num_views = len(subset_shifts(srt.radius, srt.subset))
        normalization = backbone_normalization(model.module)
        wrap = lambda e: NaiveEnsemble(e, normalization, num_views)  # noqa: E731
        strength, seed = NaiveEnsemble.strength, NaiveEnsemble.seed
        details = {"num_views": num_views, "strength": strength, "seed": seed}
        return model.candidate("naive ensemble", wrap, num_views, baseline=baseline, **details)
    views = ShiftedViews(model.read((model.features.layer,), model.features.norm), **shifts)
    name = srt.plain.name.replace("SRT", "output ensemble")
    plain = model.candidate(name, lambda e: e, len(views.shifts), baseline=baseline, **shifts)
    return replace(plain, extract=views, read=None, output_shifts=views.shifts)


def open_candidate(
    backbone: BackboneOptions,
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SINGLE_PASS,
    execution: ExecutionOptions = ExecutionOptions(),
    *,
    baseline: Baseline | None = None,
    token_stride: int | None = None,
) -> Candidate:
    """Make one candidate: a backbone in one pass, under SRT, or a baseline over it.

    Args:
        backbone: The model.
        features: Which features are judged where a task does not name layers.
        srt: What SRT averages; by default the single pass.
        execution: How the model is run.
        baseline: What stands in SRT's place, if anything.
        token_stride: Of overlapping tokens, in pixels.

    Raises:
        ValueError: If an option fits nothing, or a baseline is to be combined with a variant of SRT.
        FileNotFoundError: If a folder is neither a run nor an export.
    """
    if baseline is not None and srt != srt.plain:
        raise ValueError(
            f"baseline {baseline} with {srt.name}: statistic, grid, flip, scales and resume_at are of SRT, in whose "
            "place a baseline stands; leave them or the baseline out"
        )
    model = load_model(backbone, features, execution)
    if baseline is not None:
        return baseline_over(model, baseline, srt, token_stride)
    return under_srt(backbone.name, model, srt)


@dataclass(frozen=True)
class Lineup:
    """Candidates in the order of a table, and the two that others are measured by.

    Attributes:
        candidates: Rows in order.
        reference: Name of the candidate that gains are relative to.
        ensemble: Name of the candidate whose gain is the whole.
    """

    candidates: tuple[Candidate, ...]
    reference: str
    ensemble: str


def open_candidates(
    teacher: BackboneOptions,
    students: dict[str, BackboneOptions],
    features: FeatureOptions = FeatureOptions(),
    srt: SRTOptions = SRTOptions(),
    execution: ExecutionOptions = ExecutionOptions(),
    *,
    baselines: Sequence[Baseline] = (),
    token_stride: int | None = None,
) -> Lineup:
    """Line up teacher, teacher under SRT, baselines over it, and students, each under its own normalisation.

    Interpolation costs no pass, so that each student gets a row with its features smoothed too, unless it declares a
    readout of its own, through which it is read.

    Args:
        teacher: The original.
        students: Adapted models, by the name of their rows.
        features: Which features are judged.
        srt: What SRT averages.
        execution: How models are run.
        baselines: Rows between SRT and students.
        token_stride: Of overlapping tokens, in pixels.

    Raises:
        ValueError: If an option fits nothing; see `load_model`, `under_srt` and `baseline_over`.
        FileNotFoundError: If a folder is neither a run nor an export.
    """
    if srt.radius < 1:
        raise ValueError(f"shift radius {srt.radius} leaves no SRT to compare with; use 1 or more, the paper's is 3")
    original = load_model(teacher, features, execution)
    adapted = {name: load_model(options, features, execution) for name, options in students.items()}
    smoothings: list[Baseline] = [baseline for baseline in baselines if baseline in get_args(Interpolation)]
    candidates = [
        single_pass(TEACHER, original),
        under_srt(srt.name, original, srt),
        *(baseline_over(original, baseline, srt, token_stride) for baseline in baselines),
    ]
    for name, model in adapted.items():
        smooth = [baseline_over(model, b, srt) for b in smoothings if model.readout == "none"]
        candidates += [replace(found, name=f"{name}, {found.name}") for found in smooth]
        candidates.append(single_pass(name, model))
    return Lineup(tuple(candidates), TEACHER, srt.name)
