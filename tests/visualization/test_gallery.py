import os

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from srt_distill.data import VideoFrames
from srt_distill.images import Normalization
from srt_distill.visualization import Column, visualize, visualize_propagation
from srt_distill.visualization.gallery import resize_to_patches
from srt_distill.visualization.writers import write_mp4
from tests.data.pictures import closed

NORMALIZATION = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def colour_tokens(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Two layers of token maps: mean colours of patches of 8 pixels, and their squares."""
    tokens = F.avg_pool2d(images, 8)
    features = torch.cat([tokens, tokens.roll(1, 2)], dim=1)
    return features, features.square()


def colour_pixels(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The same features at pixel resolution."""
    features = torch.cat([images, images.roll(8, 2)], dim=1)
    return features, features.square()


TOKENS = Column(colour_tokens, NORMALIZATION)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC).save(path)
    return path


def test_one_image_gives_the_figures_of_the_paper(photo, tmp_path):
    methods = {"teacher": TOKENS, "SRT": Column(colour_pixels, NORMALIZATION)}
    written = visualize(
        methods,
        [photo],
        tmp_path / "out",
        patch=8,
        layer_names=("first", "second"),
        single="teacher",
        ensemble="SRT",
        short_side=64,
    )
    assert [path.name for path in written] == ["photo-pca.png", "photo-noise.png", "photo-resized.png"]
    widths = [Image.open(path).width for path in written]
    assert all(Image.open(path).height >= 2 * 64 for path in written)
    assert 3 * 96 <= widths[0] < 4 * 96 <= widths[2], "three columns of 96 pixels, four in the resizing figure"


def test_without_an_ensemble_there_is_only_the_pca_figure_and_folders_get_a_sheet(photo, tmp_path):
    Image.open(photo).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(photo.with_name("turned.png"))
    written = visualize({"teacher": TOKENS}, [photo.parent], tmp_path / "out", patch=8, layer_names=("a", "b"))
    assert [path.name for path in written] == ["photo-pca.png", "turned-pca.png", "contact-sheet.png"]


def test_extractors_are_given_normalised_images_in_multiples_of_the_patch(photo, tmp_path):
    seen = []

    def spy(images):
        seen.append(images)
        return (F.avg_pool2d(images, 8),)

    visualize({"spy": Column(spy, NORMALIZATION)}, [photo], tmp_path, patch=8, short_side=32)
    pixels = np.asarray(resize_to_patches(Image.open(photo), 32, 8))
    assert pixels.shape == (32, 48, 3)
    np.testing.assert_allclose(seen[0][0, 1].numpy(), (pixels[..., 1] / 255 - 0.4) / 0.2, atol=1e-5)


def test_a_video_becomes_an_animation_under_one_projection(tmp_path):
    frames = [np.full((32, 48, 3), 0, np.uint8) for _ in range(6)]
    for i, frame in enumerate(frames):
        frame[:, : 8 * (i + 1)] = (200, 40 * i, 10)
    write_mp4(tmp_path / "clip.mp4", frames)
    written = visualize(
        {"teacher": TOKENS},
        [tmp_path / "clip.mp4"],
        tmp_path / "out",
        patch=8,
        layer_names=("a", "b"),
        short_side=32,
        every=2,
    )
    assert [path.name for path in written] == ["clip-pca.mp4", "clip-pca.gif"]
    with av.open(str(written[0])) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
    assert Image.open(written[1]).n_frames == 3


LAYERS = {"patch": 8, "layer_names": ("a", "b"), "short_side": 32}


def draw(sources, output, **options):
    return [path.name for path in visualize({"teacher": TOKENS}, sources, output, **LAYERS, **options)]


def test_a_broken_image_is_named_and_passed_over(photo, tmp_path):
    (photo.parent / "broken.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match=r"broken\.png.*passed over"):
        assert draw([photo.parent], tmp_path / "out") == ["photo-pca.png"]
    with pytest.warns(UserWarning), pytest.raises(OSError, match=r"broken\.png"):
        draw([photo.parent / "broken.png"], tmp_path / "alone")
    assert not (tmp_path / "alone").exists()


def test_each_column_sees_its_own_normalisation(photo, tmp_path):
    seen = {}

    def spy(name):
        return Column(lambda images: seen.update({name: images}) or (F.avg_pool2d(images, 8),), statistics[name])

    statistics = {"a": NORMALIZATION, "b": Normalization((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))}
    visualize({name: spy(name) for name in statistics}, [photo], tmp_path, patch=8, short_side=32)
    assert torch.allclose(statistics["a"].undo(seen["a"]), statistics["b"].undo(seen["b"]), atol=1e-5)
    assert not torch.allclose(seen["a"], seen["b"], atol=0.1)


def test_a_frame_that_cannot_be_read_costs_that_frame(tmp_path, monkeypatch):
    frames = [np.full((32, 48, 3), 40 * i, np.uint8) for i in range(6)]
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, frames)
    load = VideoFrames.load

    def fail(self, index):
        if self.name(index) in {"a.mp4#0", "a.mp4#3"}:
            raise OSError(f"cannot decode {self.name(index)}")
        return load(self, index)

    monkeypatch.setattr(VideoFrames, "load", fail)
    with pytest.warns(UserWarning, match="passed over") as warned:
        written = draw([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "out")
    assert {text for text in map(str, (w.message for w in warned))} == {
        f"cannot decode a.mp4#{number}; passed over" for number in (0, 3)
    }
    assert written == ["a-pca.mp4", "a-pca.gif", "b-pca.mp4", "b-pca.gif"]
    assert [Image.open(tmp_path / "out" / f"{name}-pca.gif").n_frames for name in "ab"] == [4, 6]


def test_content_tells_a_picture_from_a_video(photo, tmp_path):
    write_mp4(tmp_path / "clip.mp4", [np.full((32, 48, 3), 40 * i, np.uint8) for i in range(3)])
    (tmp_path / "clip.mp4").rename(tmp_path / "clip.3gp")
    photo.rename(tmp_path / "picture.mp4")
    written = draw([tmp_path / "clip.3gp", tmp_path / "picture.mp4"], tmp_path / "out")
    assert written == ["picture-pca.png", "clip-pca.mp4", "clip-pca.gif"]


@pytest.mark.parametrize("length", [200, 244, 251])
def test_long_names_are_cut_to_what_the_file_system_allows(photo, tmp_path, length):
    for last in "ab":
        photo.with_name("é" + "x" * (length - 3) + last + ".png").write_bytes(photo.read_bytes())
    written = draw([photo.parent], tmp_path / "out")
    assert len(set(written)) == 4 and all((tmp_path / "out" / name).is_file() for name in written)
    assert sum(name.startswith("éxxx") for name in written) == 2


def test_names_that_are_not_utf_8_are_escaped(photo, tmp_path):
    for name in (b"caf\xe9.png", b"b.png"):
        photo.with_name(os.fsdecode(name)).write_bytes(photo.read_bytes())
    written = draw([photo.parent], tmp_path / "out")
    assert written == ["b-pca.png", r"caf\udce9-pca.png", "photo-pca.png", "contact-sheet.png"]
    assert all(name.isprintable() for name in written)


def test_an_extreme_ratio_of_sides_is_refused_by_name(photo, tmp_path):
    Image.new("RGB", (3, 4000)).save(photo.parent / "high.png")
    with pytest.warns(UserWarning, match=r"high\.png is 3x4000 pixels.*passed over"):
        assert draw([photo.parent], tmp_path / "out") == ["photo-pca.png"]


def test_a_folder_that_may_not_be_listed_costs_itself(photo, tmp_path):
    (photo.parent / "lost+found").mkdir()
    with closed(photo.parent / "lost+found"), pytest.warns(UserWarning, match=r"lost\+found"):
        assert draw([photo.parent], tmp_path / "out") == ["photo-pca.png"]


def test_sources_of_one_name_do_not_overwrite_each_other(photo, tmp_path):
    arguments = {"patch": 8, "layer_names": ("a", "b")}
    written = visualize({"teacher": TOKENS}, [photo, photo.parent], tmp_path / "out", **arguments)
    assert [path.name for path in written[:2]] == ["photo-pca.png", "photo-2-pca.png"]


def test_what_cannot_be_drawn_is_refused(photo, tmp_path):
    arguments = {"patch": 8}
    methods = {"teacher": TOKENS}
    with pytest.raises(ValueError, match="no column is named 'SRT'; the names are teacher"):
        visualize(methods, [photo], tmp_path, **arguments, single="teacher", ensemble="SRT")
    with pytest.raises(ValueError, match="2 maps for 1 layer names"):
        visualize(methods, [photo], tmp_path, **arguments)
    with pytest.raises(ValueError, match="name at least one"):
        visualize(methods, [], tmp_path, **arguments)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        visualize(methods, [tmp_path / "nowhere"], tmp_path, **arguments)
    with pytest.raises(ValueError, match="short side of 3 pixels is less than a patch of 8"):
        visualize(methods, [photo], tmp_path, **arguments, short_side=3)


def test_propagation_is_drawn_as_a_sheet_and_as_videos(tmp_path):
    frames = [np.full((32, 48, 3), 90, np.uint8) for _ in range(5)]
    moving = []
    for i in range(5):
        moving.append(np.zeros((32, 48), np.uint8))
        moving[-1][8:24, 4 * i : 4 * i + 16] = 1
    still = [moving[0]] * 5
    written = visualize_propagation(frames, {"truth": moving, "student": still}, tmp_path / "clip", num_shown=3)
    assert [path.name for path in written] == ["clip.png", "clip.mp4", "clip.gif"]
    sheet = np.asarray(Image.open(written[0]))
    tinted = (sheet == (255, 0, 0)).all(-1)
    assert tinted.any() and sheet.shape[0] >= 3 * 32
    assert Image.open(written[2]).n_frames == 5
    with pytest.raises(ValueError, match="student has 2 masks for 5 frames"):
        visualize_propagation(frames, {"student": still[:2]}, tmp_path / "clip")
    with pytest.raises(ValueError, match="at least one of each"):
        visualize_propagation([], {"student": []}, tmp_path / "clip")
