import pickle
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from srt_distill.data import VideoFrames
from srt_distill.data.frame_reader import FrameReader, read_frame_times
from srt_distill.data.video import is_video
from tests.data.pictures import picture, write_video

NUM_FRAMES = 40
GROUP = 12


def grey(image: Image.Image) -> int:
    """Number of the frame that `write_video` wrote."""
    return round(float(np.asarray(image)[32:].mean()) / 6)


def write_sound(path: Path) -> None:
    """A thousandth of a minute of silence."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux([*stream.encode(silence), *stream.encode()])


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "a.mp4", NUM_FRAMES)
    (root / "more").mkdir()
    write_video(root / "more/b.mkv", 10)
    (root / "more/notes.txt").touch()
    return root


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Grows by one with every frame any reader decodes."""
    counted = []
    advance = FrameReader._advance

    def count(self, time):
        frames = self._frames
        self._frames = (counted.append(frame.pts) or frame for frame in frames)
        try:
            return advance(self, time)
        finally:
            self._frames = frames

    monkeypatch.setattr(FrameReader, "_advance", count)
    return counted


def test_one_file_and_a_folder_of_them(videos):
    single = VideoFrames(videos / "a.mp4")
    assert (len(single), single.name(39)) == (NUM_FRAMES, "a.mp4#39")
    assert single.load(0).mode == "RGB" and single.load(0).size == (64, 48)
    both = VideoFrames(videos)
    assert (len(both), both.name(39), both.name(40), both.name(49)) == (
        *(50, "a.mp4#39", "more/b.mkv#0", "more/b.mkv#9"),
    )
    assert [grey(both.load(i)) for i in (39, 40, 49, 5)] == [39, 0, 9, 5]
    with pytest.raises(IndexError, match="frame 50 is out of range: the source has 50"):
        both.load(50)


def test_every_counts_within_each_video(videos):
    source = VideoFrames(videos, every=4)
    assert [source.name(i) for i in range(len(source))][-4:] == ["a.mp4#36", *(f"more/b.mkv#{n}" for n in (0, 4, 8))]
    assert [grey(source.load(i)) for i in (9, 12)] == [36, 8]
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        VideoFrames(videos, every=0)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("plain.mp4", "mpeg4", {}),
        ("reordered.mp4", "mpeg4", {"bf": "2"}),
        ("reordered.avi", "mpeg4", {"bf": "2"}),
        ("reordered.mkv", "mpeg4", {"bf": "2"}),
        ("open.mp4", "libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3:log-level=none"}),
    ],
)
def test_random_access_is_exact_and_costs_a_group_at_most(tmp_path, decoded, name, codec, options):
    try:
        write_video(tmp_path / name, NUM_FRAMES, codec, **options)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    with av.open(tmp_path / name) as container:
        frames = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    source = VideoFrames(tmp_path / name)
    assert len(source) == len(frames) == NUM_FRAMES
    for index in np.random.default_rng(0).permutation(NUM_FRAMES):
        decoded.clear()
        assert np.array_equal(np.asarray(source.load(int(index))), frames[index])
        assert len(decoded) <= 2 * GROUP + 1


def test_a_pass_in_order_decodes_every_frame_once(videos, decoded):
    source = VideoFrames(videos / "a.mp4")
    assert [grey(source.load(i)) for i in range(NUM_FRAMES)] == list(range(NUM_FRAMES))
    assert len(decoded) == NUM_FRAMES


def test_goes_on_in_a_copy(videos):
    source = VideoFrames(videos)
    source.load(20)
    assert grey(pickle.loads(pickle.dumps(source)).load(21)) == 21


def test_file_that_is_no_video_stands_for_one_unreadable_image(videos, tmp_path):
    content = (videos / "a.mp4").read_bytes()
    (tmp_path / "broken.mp4").write_bytes(content[: len(content) // 2])
    write_video(tmp_path / "good.mp4", 3)
    write_sound(tmp_path / "sound.mp4")
    source = VideoFrames(tmp_path)
    assert len(source) == 5
    with pytest.raises(OSError, match=r"cannot read video broken\.mp4: "):
        source.load(0)
    assert grey(source.load(2)) == 1
    with pytest.raises(OSError, match=r"cannot read video sound\.mp4: it has no video stream"):
        source.load(4)


def test_frame_that_is_damaged_and_file_that_vanished(tmp_path):
    write_video(tmp_path / "v.mp4", NUM_FRAMES)
    source = VideoFrames(tmp_path / "v.mp4")
    times = read_frame_times(tmp_path / "v.mp4")
    reader = FrameReader(tmp_path / "v.mp4", times._replace(shown=times.shown + 1))
    with pytest.raises(OSError, match="cannot decode frame 3: the decoder skips it"):
        reader.read(3)
    (tmp_path / "v.mp4").unlink()
    with pytest.raises(OSError, match=r"cannot open video v\.mp4"):
        source.load(3)


def test_damage_costs_the_frames_it_hits_and_raises_nothing_but_os_error(tmp_path):
    """Bytes in the middle of the file are overwritten: frames of other groups are untouched."""
    path = tmp_path / "v.mkv"
    write_video(path, NUM_FRAMES)
    with av.open(path) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in spans[14:17]:
        content[position + 8 : position + size] = bytes(size - 8)
    path.write_bytes(content)
    source = VideoFrames(path)
    readable = {}
    for index in range(len(source)):
        try:
            readable[index] = grey(source.load(index))
        except OSError as error:
            assert "v.mkv: cannot decode frame" in str(error)
    untouched = set(range(12)) | set(range(24, NUM_FRAMES))
    assert untouched <= set(readable) and all(readable[index] == index for index in untouched)
    assert not {14, 15, 16} & set(readable)


@pytest.mark.parametrize("ending", ["mp4", "3gp", "m2ts", "mkv", "jpg", "unknown", ""])
def test_a_video_is_told_by_what_it_holds(tmp_path, ending):
    for name, container in (("phone", "3gp"), ("camera", "mpegts"), ("web", "matroska"), ("old", "avi")):
        write_video(tmp_path / name, NUM_FRAMES, container=container)
        assert is_video((tmp_path / name).rename(tmp_path / f"{name}.{ending}"))


def test_pictures_texts_and_sound_are_no_videos_whatever_they_are_called(tmp_path, videos):
    picture(1).save(tmp_path / "picture.mp4", "PNG")
    picture(1).save(tmp_path / "animated.mkv", "GIF", save_all=True, append_images=[picture(2)])
    (tmp_path / "notes.txt").write_text("no video\n" * 100)
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty").touch()
    (tmp_path / "addresses.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/v.ts\n#EXT-X-ENDLIST\n")
    write_sound(tmp_path / "sound.mp4")
    assert not any(map(is_video, [*tmp_path.iterdir(), tmp_path, tmp_path / "absent.mp4"]))


def test_damaged_video_is_still_spoken_of_as_a_video(tmp_path, videos):
    for content in (b"", (videos / "a.mp4").read_bytes()[:500]):
        (tmp_path / "broken.mp4").write_bytes(content)
        assert is_video(tmp_path / "broken.mp4")


def test_no_video(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no video in .* \(looked for \.mp4, "):
        VideoFrames(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder .*none\.mp4 does not exist"):
        VideoFrames(tmp_path / "none.mp4")


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_recording_held_turned_is_turned_back(tmp_path, degrees):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write which way the camera was held")
    write_video(tmp_path / "plain.mp4", 1)
    write_video(tmp_path / "turned.mp4", 1, turned=degrees)
    plain, turned = (np.asarray(VideoFrames(tmp_path / name).load(0)) for name in ("plain.mp4", "turned.mp4"))
    assert np.array_equal(turned, np.rot90(plain, degrees // 90))


def test_real_video(shared_data):
    source = VideoFrames(shared_data / "video/bedroom.mp4", every=50)
    assert (len(source), source.load(3).size) == (4, (960, 540))
