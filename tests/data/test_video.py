import io
import pickle
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from srt_distill.data import VideoFrames, frame_reader
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
    decode = frame_reader.decode_numbered

    def count(*arguments):
        for number, frame in decode(*arguments):
            if frame is not None:
                counted.append(number)
            yield number, frame

    monkeypatch.setattr(frame_reader, "decode_numbered", count)
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


H264 = "bframes=3:b-adapt=0:keyint=12:log-level=none"
OPEN, PYRAMID = {"x264-params": f"{H264}:open-gop=1"}, {"x264-params": f"{H264}:b-pyramid=normal"}
B_FRAMES = {"bf": "2"}

CONTAINERS = [
    ("plain.mp4", "mpeg4", {}),
    ("reordered.mp4", "mpeg4", B_FRAMES),
    ("reordered.avi", "mpeg4", B_FRAMES),
    ("reordered.mkv", "mpeg4", B_FRAMES),
    ("open.mp4", "libx264", OPEN),
    ("pyramid.mov", "libx264", PYRAMID),
    ("pyramid.flv", "libx264", PYRAMID),
    ("open.m2ts", "libx264", OPEN),
    ("open.mp4", "libx265", {"x265-params": f"{H264}:open-gop=1"}),
    ("hidden.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("broadcast.ts", "mpeg2video", B_FRAMES),
    ("camera.mxf", "mpeg2video", B_FRAMES),
    # no time of display is stored
    ("pyramid.avi", "libx264", PYRAMID),
    ("open.avi", "libx264", OPEN),
]
SEEK_FROM_AFAR = [  # 40 tiny frames fill a packet or two of these, or nothing is found in them at all
    ("disc.vob", "mpeg2video", B_FRAMES),
    ("disc.mpg", "mpeg1video", B_FRAMES),
    ("unstamped.mpg", "libx264", OPEN),
    ("pyramid.asf", "libx264", PYRAMID),
    ("old.wmv", "wmv2", {}),
    ("bare.h264", "libx264", PYRAMID),
]


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS + SEEK_FROM_AFAR)
def test_random_access_is_exact_and_costs_a_group_at_most(tmp_path, decoded, name, codec, options):
    try:
        write_video(tmp_path / name, NUM_FRAMES, codec, **options)
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    with av.open(tmp_path / name) as container:
        frames = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    assert [grey(Image.fromarray(frame)) for frame in frames] == list(range(NUM_FRAMES))
    source = VideoFrames(tmp_path / name)
    assert len(source) == len(frames)
    for index in np.random.default_rng(0).permutation(NUM_FRAMES):
        decoded.clear()
        assert np.array_equal(np.asarray(source.load(int(index))), frames[index])
        if (name, codec, options) not in SEEK_FROM_AFAR:
            assert len(decoded) <= 2 * GROUP + 1
    source.load(0)
    decoded.clear()
    for index in range(1, NUM_FRAMES):
        source.load(index)
    assert len(decoded) < NUM_FRAMES


def test_a_pass_in_order_decodes_every_frame_once(videos, decoded):
    source = VideoFrames(videos / "a.mp4")
    assert not decoded
    assert [grey(source.load(i)) for i in range(NUM_FRAMES)] == list(range(NUM_FRAMES))
    assert len(decoded) == NUM_FRAMES


def test_goes_on_in_a_copy(videos):
    source = VideoFrames(videos)
    source.load(20)
    assert grey(pickle.loads(pickle.dumps(source)).load(21)) == 21


def test_damaged_video_stands_for_one_unreadable_image_and_sound_for_none(videos, tmp_path):
    content = (videos / "a.mp4").read_bytes()
    (tmp_path / "broken.mp4").write_bytes(content[: len(content) // 2])
    write_video(tmp_path / "good.mp4", 3)
    write_sound(tmp_path / "sound.mp4")
    source = VideoFrames(tmp_path)
    assert len(source) == 4
    with pytest.raises(OSError, match=r"cannot read video broken\.mp4: "):
        source.load(0)
    assert grey(source.load(2)) == 1
    with pytest.raises(OSError, match=r"cannot read video sound\.mp4: it has no video stream"):
        VideoFrames(tmp_path / "sound.mp4").load(0)


def test_file_that_vanished(tmp_path):
    write_video(tmp_path / "v.mp4", NUM_FRAMES)
    source = VideoFrames(tmp_path / "v.mp4")
    (tmp_path / "v.mp4").unlink()
    with pytest.raises(OSError, match=r"cannot open video v\.mp4"):
        source.load(3)


def test_undecodable_frame_costs_that_frame(tmp_path):
    path = tmp_path / "v.mov"
    write_video(path, 6, "png")
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 8] == b"\x89PNG\r\n\x1a\n"]
    content[starts[2] : starts[2] + 40] = bytes(40)
    path.write_bytes(content)
    source = VideoFrames(path)
    for order in (range(6), [5, 2, 3, 0, 4, 2, 1]):
        for index in order:
            if index == 2:
                with pytest.raises(OSError, match=r"v\.mov: cannot decode frame 2: "):
                    source.load(2)
            else:
                assert grey(source.load(index)) == index


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
    picture(1).save(tmp_path / "picture.png")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match="no video in "):
        VideoFrames(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder .*none\.mp4 does not exist"):
        VideoFrames(tmp_path / "none.mp4")


DISPLAY_MATRICES = {  # a, b, c, d: a stored (x, y) is shown at (a x + c y, b x + d y)
    "upright": (1, 0, 0, 1),
    "quarter": (0, 1, -1, 0),
    "half": (-1, 0, 0, -1),
    "three-quarters": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "flipped": (1, 0, 0, -1),
    "mirrored-quarter": (0, 1, 1, 0),
    "mirrored-three-quarters": (0, -1, -1, 0),
}


@pytest.mark.parametrize("name", DISPLAY_MATRICES)
def test_frames_are_turned_and_mirrored_as_the_display_matrix_says(tmp_path, name):
    """The matrix in the file's track header is overwritten, as recorders write it (ISO 14496-12, 6.2.2)."""
    write_video(tmp_path / "v.mp4", 1)
    stored = np.asarray(VideoFrames(tmp_path / "v.mp4").load(0))
    content = bytearray((tmp_path / "v.mp4").read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = DISPLAY_MATRICES[name]
    content[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "v.mp4").write_bytes(content)
    shown = np.asarray(VideoFrames(tmp_path / "v.mp4").load(0))
    height, width = stored.shape[:2]
    y, x = np.mgrid[:height, :width]
    rows, columns = b * x + d * y, a * x + c * y
    expected = np.zeros((np.ptp(rows) + 1, np.ptp(columns) + 1, 3), np.uint8)
    expected[rows - rows.min(), columns - columns.min()] = stored
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize(
    ("aspect", "size"), [("2", (128, 48)), ("1/2", (64, 96)), ("16/15", (68, 48)), ("9", (64, 48))]
)
def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path, aspect, size):
    write_video(tmp_path / "v.mp4", 2, pixel_aspect=Fraction(aspect))
    image = VideoFrames(tmp_path / "v.mp4").load(1)
    assert image.size == size and grey(image) == 1


def test_pixels_are_made_square_before_the_frame_is_turned(tmp_path):
    write_video(tmp_path / "v.mp4", 1, pixel_aspect=Fraction(2), turned=90)
    assert VideoFrames(tmp_path / "v.mp4").load(0).size == (48, 128)


def test_cover_picture_is_not_the_video(tmp_path):
    """An MP4 whose tags come before the track, so that the cover is its first stream; and a song with a cover."""
    cover = io.BytesIO()
    picture(1).save(cover, "PNG")

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    item = box(b"covr", box(b"data", struct.pack(">II", 14, 0) + cover.getvalue()))
    tags = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", item)))
    for name in ("video.mp4", "song.m4a"):
        (write_sound if name == "song.m4a" else lambda path: write_video(path, 6))(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        at = content.index(b"moov") - 4  # the last box of the file: nothing behind it moves
        header = struct.unpack(">I", content[at + 8 : at + 12])[0]
        moov = content[at + 8 : at + 8 + header] + tags + content[at + 8 + header :].replace(b"udta", b"free")
        (tmp_path / name).write_bytes(content[:at] + box(b"moov", moov))
    with av.open(tmp_path / "video.mp4") as container:
        assert container.streams.video[0].codec_context.name == "png"
    source = VideoFrames(tmp_path / "video.mp4")
    assert [grey(source.load(i)) for i in range(len(source))] == list(range(6))
    assert is_video(tmp_path / "video.mp4") and not is_video(tmp_path / "song.m4a")


def test_a_video_of_a_format_that_is_none_is_named(tmp_path):
    """A damaged FLV whose frames claim a codec that does not exist: FFmpeg opens it, and has nothing to decode it."""
    path = tmp_path / "damaged.flv"
    write_video(path, 14, "libx264", **PYRAMID)
    content, at = bytearray(path.read_bytes()), 13
    while at + 11 < len(content):
        if content[at] == 9:  # a tag of video, whose first byte names the codec
            content[at + 11] |= 13
        at += 15 + int.from_bytes(content[at + 1 : at + 4], "big")
    path.write_bytes(content)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context is None
    assert not is_video(path)
    with pytest.raises(OSError, match=r"damaged\.flv"):
        VideoFrames(path).load(0)


FUZZED = [
    *[("v.mp4", "mpeg4", B_FRAMES), ("v.mkv", "libx264", OPEN), ("v.avi", "libx264", PYRAMID)],
    *[("v.ts", "mpeg2video", B_FRAMES), ("v.mpg", "mpeg1video", B_FRAMES), ("v.webm", "libvpx-vp9", {})],
    *[("v.flv", "libx264", PYRAMID), ("v.mov", "png", {}), ("v.wmv", "wmv2", {}), ("v.h264", "libx264", OPEN)],
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> list[tuple[str, bytes]]:
    root = tmp_path_factory.mktemp("fuzzed")
    contents = []
    for name, codec, options in FUZZED:
        try:
            write_video(root / name, 14, codec, **options)
            contents.append((name, (root / name).read_bytes()))
        except av.codec.codec.UnknownCodecError:
            continue
    return contents


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_video_is_read_or_named(fuzzed, tmp_path, data):
    """Bytes changed, cut out, doubled, or cut off: every frame is read or refused by an `OSError` with a name."""
    damage_and_read(fuzzed, tmp_path, data)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_thousand_damaged_videos(fuzzed, tmp_path, data):
    damage_and_read(fuzzed, tmp_path, data)


def damage_and_read(fuzzed, tmp_path, data):
    name, content = data.draw(st.sampled_from(fuzzed))
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        length = data.draw(st.sampled_from([1, 4, 40, 400]))
        piece = bytes(damaged[at : at + length])
        kind = data.draw(st.sampled_from(["noise", "zeros", "ones", "cut", "doubled", "end"]))
        if kind == "end":
            del damaged[max(at, 1) :]
        else:
            noise = np.random.default_rng(at).bytes(len(piece))
            new = {"noise": noise, "zeros": bytes(len(piece)), "ones": b"\xff" * len(piece), "doubled": 2 * piece}
            damaged[at : at + length] = new.get(kind, b"") or b"\0"
    path = tmp_path / name
    path.write_bytes(damaged)
    source = VideoFrames(path)
    is_video(path)
    assert len(source) < 10 * 14
    for index in (*range(len(source)), 0, len(source) // 2):
        try:
            image = source.load(index)
        except OSError as error:
            assert name in str(error)
        else:
            assert image.mode == "RGB" and source.name(index) == f"{name}#{index}"


def test_real_video(shared_data):
    source = VideoFrames(shared_data / "video/bedroom.mp4", every=50)
    assert (len(source), source.load(3).size) == (4, (960, 540))
