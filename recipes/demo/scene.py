"""Scenes with exact masks: textured shapes that move, deform and hide one another over a moving background.

Shape legend: T frames of a scene, H W pixels of a frame, s samples along each side of a pixel.

A scene is drawn from the bottom up on a grid of s x s samples a pixel. Every sample belongs to exactly one layer, so a
pixel's colour is the mean of its samples (anti-aliased edges) and its label is the layer that owns most of them (exact
masks): both come from the same picture of who hides whom.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

SAMPLES = 2  # samples along each side of a pixel
NUM_HARMONICS = 5  # of an outline; the first is left out, it would only move the shape
SHADOW, RIM = (
    0.45,
    0.2,
)  # an object darkens what lies below it near its outline, fading out over this share of its radius
SENSOR_NOISE = 0.01  # standard deviation, of values from 0 to 1


@dataclass(frozen=True)
class Wave:
    """A smooth course of one quantity: middle + swing · sin(2π · cycles · time + phase), time from 0 to 1."""

    middle: float
    swing: float = 0.0
    cycles: float = 0.0
    phase: float = 0.0

    def __call__(self, time: float) -> float:
        """Value at a time from 0 (first frame) to 1 (last frame)."""
        return self.middle + self.swing * math.sin(2 * math.pi * self.cycles * time + self.phase)


@dataclass(frozen=True)
class Pose:
    """Where a layer lies in the frame: centre in pixels, angle in radians, magnification of its texture."""

    row: Wave
    column: Wave
    angle: Wave
    scale: Wave
    gain: Wave


@dataclass(frozen=True)
class Shape:
    """One object: a smooth star-shaped outline filled with a piece of a photograph.

    The outline in the object's own frame is r(θ) = radius · (1 + Σ_k amplitude_k cos(kθ + phase_k(time))).
    """

    photo: Float[Tensor, "3 _ _"]
    anchor: tuple[float, float]  # the photo's pixel under the object's centre
    pose: Pose
    radius: float
    stretch: float
    harmonics: tuple[tuple[float, Wave], ...]
    ripple: Wave  # of the texture, in pixels
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A background and its objects, bottom first; object k of the list has label k + 1."""

    height: int
    width: int
    photo: Float[Tensor, "3 _ _"]
    anchor: tuple[float, float]
    pose: Pose
    tint: tuple[float, float, float]
    shapes: tuple[Shape, ...]
    noise_seed: int


def _wave(rng: np.random.Generator, middle: float, swing: float, cycles: tuple[float, float] = (0.3, 0.8)) -> Wave:
    """Draw a course of random speed and phase whose swing is between half and all of the one given."""
    return Wave(middle, swing * rng.uniform(0.5, 1.0), rng.uniform(*cycles), rng.uniform(0, 2 * math.pi))


def _tint(rng: np.random.Generator, strength: float) -> tuple[float, float, float]:
    """Draw a colour whose brightest channel is 1."""
    colour = 1 - strength * rng.random(3)
    red, green, blue = colour / colour.max()
    return float(red), float(green), float(blue)


def _anchor(rng: np.random.Generator, photo: Float[Tensor, "3 H W"], margin: float) -> tuple[float, float]:
    """Find the liveliest of a few random places `margin` or more pixels off the photo's border, if it is that large."""
    height, width = photo.shape[1:]
    rows, columns = min(margin, height / 2), min(margin, width / 2)
    places = [(rng.uniform(rows, height - rows), rng.uniform(columns, width - columns)) for _ in range(4)]
    side = int(max(8, margin / 2))

    def contrast(place: tuple[float, float]) -> float:
        row, column = int(place[0]), int(place[1])
        return float(photo[:, max(0, row - side) : row + side, max(0, column - side) : column + side].std())

    return max(places, key=contrast)


def _draw_shape(
    rng: np.random.Generator, photo: Float[Tensor, "3 H W"], place: float, height: int, width: int
) -> Shape:
    """One object of random outline, piece of photo and motion round the column at `place` (0 left, 1 right)."""
    radius = height * rng.uniform(0.15, 0.25)
    pose = Pose(
        row=_wave(rng, height * rng.uniform(0.35, 0.65), height * 0.2),
        column=_wave(rng, width * (0.12 + 0.76 * place), width * 0.2),
        angle=_wave(rng, rng.uniform(0, 2 * math.pi), 1.0),
        scale=_wave(rng, 1.0, 0.22),
        gain=_wave(rng, rng.uniform(0.9, 1.1), 0.15),
    )
    harmonics = tuple(
        (rng.uniform(0.0, 0.55) / order, _wave(rng, rng.uniform(0, 2 * math.pi), 0.9))
        for order in range(2, 2 + NUM_HARMONICS)
    )
    return Shape(
        photo=photo,
        anchor=_anchor(rng, photo, 1.3 * radius),
        pose=pose,
        radius=radius,
        stretch=rng.uniform(0.75, 1.3),
        harmonics=harmonics,
        ripple=_wave(rng, 0.0, 4.0),
        tint=_tint(rng, 0.6 if is_grey(photo) else 0.15),
    )


def is_grey(photo: Float[Tensor, "3 H W"]) -> bool:
    """Whether the three planes are equal, so that a tint is needed to give the photo a colour."""
    return bool(torch.equal(photo[0], photo[1]) and torch.equal(photo[1], photo[2]))


def draw_scene(
    background: Float[Tensor, "3 _ _"],
    textures: list[Float[Tensor, "3 _ _"]],
    num_objects: int,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> Scene:
    """Compose a random scene; the same state of `rng` gives the same scene.

    Args:
        background: (3, H, W) photo from 0 to 1 behind the objects.
        textures: Photos that the objects are cut from; none is used twice while others are left.
        num_objects: How many objects, labels 1 to `num_objects`.
        height: Of a frame, pixels.
        width: Of a frame, pixels.
        rng: Source of all choices.

    Returns:
        The scene, to be rendered at any time.
    """
    order = rng.permutation(len(textures))
    places = (rng.permutation(num_objects) + rng.uniform(0.2, 0.8, num_objects)) / num_objects
    fill = max(height / background.shape[1], width / background.shape[2])  # magnification that just fills the frame
    pose = Pose(
        row=_wave(rng, height / 2, height * 0.10),
        column=_wave(rng, width / 2, width * 0.10),
        angle=_wave(rng, 0.0, 0.12),
        scale=_wave(rng, fill * rng.uniform(1.1, 1.4), fill * 0.1),
        gain=_wave(rng, 1.0, 0.08),
    )
    return Scene(
        height=height,
        width=width,
        photo=background,
        anchor=(background.shape[1] / 2, background.shape[2] / 2),
        pose=pose,
        tint=_tint(rng, 0.5 if is_grey(background) else 0.1),
        shapes=tuple(
            _draw_shape(rng, textures[order[index % len(order)]], float(places[index]), height, width)
            for index in range(num_objects)
        ),
        noise_seed=int(rng.integers(2**31)),
    )


def _place(
    rows: Float[Tensor, "a b"], columns: Float[Tensor, "a b"], pose: Pose, time: float
) -> tuple[Float[Tensor, "a b"], Float[Tensor, "a b"]]:
    """Frame pixels to a layer's own pixels: undo its move, turn and magnification."""
    rows, columns = rows - pose.row(time), columns - pose.column(time)
    cosine, sine = math.cos(pose.angle(time)), math.sin(pose.angle(time))
    scale = pose.scale(time)
    return (cosine * rows - sine * columns) / scale, (sine * rows + cosine * columns) / scale


def _sample(
    photo: Float[Tensor, "3 H W"], rows: Float[Tensor, "a b"], columns: Float[Tensor, "a b"]
) -> Float[Tensor, "3 a b"]:
    """Bilinear values of a photo at pixel coordinates, mirrored beyond its border."""
    height, width = photo.shape[1:]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    return F.grid_sample(photo[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=False)[0]


def _paint(
    shape: Shape, rows: Float[Tensor, "a b"], columns: Float[Tensor, "a b"], time: float
) -> tuple[Float[Tensor, "3 a b"], Float[Tensor, "a b"]]:
    """Return an object's colours at frame positions, and a distance ratio: below 1 inside the outline, else above."""
    rows, columns = _place(rows, columns, shape.pose, time)
    angle = torch.atan2(rows * shape.stretch, columns / shape.stretch)
    outline = torch.ones_like(angle)
    for order, (amplitude, phase) in enumerate(shape.harmonics, start=2):
        outline += amplitude * torch.cos(order * angle + phase(time))
    outline = shape.radius * outline.clamp(min=0.25)
    ratio = torch.hypot(rows * shape.stretch, columns / shape.stretch) / outline
    ripple, period = shape.ripple(time), 2 * math.pi / (1.2 * shape.radius)
    colours = _sample(
        shape.photo,
        rows + ripple * torch.sin(columns * period) + shape.anchor[0],
        columns + ripple * torch.sin(rows * period) + shape.anchor[1],
    )
    rounding = 0.72 + 0.28 * (1 - ratio.clamp(max=1) ** 4)
    return colours * torch.tensor(shape.tint)[:, None, None] * (shape.pose.gain(time) * rounding), ratio


def _box(shape: Shape, time: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of samples that the object and its shadow can reach."""
    longest = 1 + sum(amplitude for amplitude, _ in shape.harmonics)
    reach = (1 + RIM) * longest * shape.radius * max(shape.stretch, 1 / shape.stretch) * shape.pose.scale(time)

    def span(centre: float, side: int) -> slice:
        low, high = (min(max(edge, 0.0), side) * SAMPLES for edge in (centre - reach, centre + reach))
        return slice(math.floor(low), math.ceil(high))

    return span(shape.pose.row(time), height), span(shape.pose.column(time), width)


def render(scene: Scene, time: float) -> tuple[UInt8[Tensor, "H W 3"], UInt8[Tensor, "H W"]]:
    """Draw one frame.

    Args:
        scene: What to draw.
        time: From 0 (first frame) to 1 (last frame).

    Returns:
        The image (H, W, 3) and its labels (H, W): 0 background, k the k-th object.
    """
    row_samples = (torch.arange(scene.height * SAMPLES, dtype=torch.float32) + 0.5) / SAMPLES - 0.5
    column_samples = (torch.arange(scene.width * SAMPLES, dtype=torch.float32) + 0.5) / SAMPLES - 0.5
    rows, columns = torch.meshgrid(row_samples, column_samples, indexing="ij")
    own_rows, own_columns = _place(rows, columns, scene.pose, time)
    canvas = _sample(scene.photo, own_rows + scene.anchor[0], own_columns + scene.anchor[1])
    canvas *= torch.tensor(scene.tint)[:, None, None] * scene.pose.gain(time)
    owner = torch.zeros(rows.shape, dtype=torch.long)
    for label, shape in enumerate(scene.shapes, start=1):
        box = _box(shape, time, scene.height, scene.width)
        colours, ratio = _paint(shape, rows[box], columns[box], time)
        shadow = (SHADOW * (1 + RIM - ratio) / RIM).clamp(0, SHADOW)
        below = canvas[:, *box]
        below[...] = torch.where(ratio < 1, colours, below * (1 - shadow))
        owner[box][ratio < 1] = label
    image = F.avg_pool2d(canvas[None], SAMPLES)[0]
    noise = torch.Generator().manual_seed(scene.noise_seed + round(time * 1e6))
    image = image + SENSOR_NOISE * torch.randn(image.shape, generator=noise)
    votes = F.one_hot(owner.unflatten(1, (-1, SAMPLES)).unflatten(0, (-1, SAMPLES)), len(scene.shapes) + 1).sum((1, 3))
    labels = votes.argmax(-1)  # a tie goes to the lower layer
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0), labels.byte()
