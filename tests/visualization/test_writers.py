import av
import numpy as np
import pytest
from PIL import Image

from srt_distill.visualization.writers import write_gif, write_mp4, write_picture


def make_frames(count: int = 6, height: int = 33, width: int = 47) -> list[np.ndarray]:
    """A brightness that rises from frame to frame."""
    return [np.full((height, width, 3), 20 + 30 * i, np.uint8) for i in range(count)]


def test_picture_comes_back_as_written(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    write_picture(tmp_path / "new" / "picture.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "picture.png")), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.png"]


def test_gif_plays_every_frame_at_the_speed_asked_for(tmp_path):
    write_gif(tmp_path / "video.gif", iter(make_frames()), frames_per_second=10.0)
    with Image.open(tmp_path / "video.gif") as video:
        assert video.n_frames == 6
        assert video.info["duration"] == 100
        assert video.info["loop"] == 0
        video.seek(3)
        assert abs(int(np.asarray(video.convert("RGB")).mean()) - 110) <= 3


def test_mp4_plays_every_frame_in_a_codec_browsers_know(tmp_path):
    write_mp4(tmp_path / "video.mp4", iter(make_frames()), frames_per_second=12.5)
    with av.open(str(tmp_path / "video.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert len(frames) == 6
    assert frames[0].shape == (32, 46, 3)
    for got, made in zip(frames, make_frames()):
        assert abs(got.mean() - made.mean()) < 4


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_a_failure_midway_leaves_the_older_file_and_no_remains(tmp_path, write):
    path = tmp_path / f"video.{write.__name__[-3:]}"
    path.write_bytes(b"older")

    def broken():
        yield from make_frames(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write(path, broken())
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_a_video_without_frames_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match="no frame for video"):
        write(tmp_path / "video.mp4", [])


def test_frames_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a video needs a single size"):
        write_mp4(tmp_path / "video.mp4", [*make_frames(1), *make_frames(1, height=20)])
