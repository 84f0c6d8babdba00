import io
import json
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srt_distill.data import UnlabeledImages
from srt_distill.data.crops import Draw
from srt_distill.data.shards import TarShards
from srt_distill.data.streaming import MAX_LANES, ImageStream, Sample, StreamSampler
from tests.data.pictures import picture
from tests.data.test_unlabeled import Recorder, SaveOften, fit, same


def encode(number: int) -> bytes:
    content = io.BytesIO()
    picture(number % 256, 8, 8).save(content, "PNG")
    return content.getvalue()


def blue(image: Image.Image) -> int:
    return image.getpixel((0, 0))[2]


def write_shard(path: Path, numbers: range, broken: int | None = None) -> None:
    """Samples of a text and a picture, as WebDataset has them."""
    mode = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode) as tar:
        for number in numbers:
            content = b"damaged" if number == broken else encode(number)
            for ending, data in (("json", b"{}"), ("png", content), ("mask.png", content)):
                member = tarfile.TarInfo(f"set/{number:05}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


class Numbers(ImageStream):
    """Image number i is what lies at place i; counts what is read."""

    def __init__(self, sizes: list[int], buffer: int) -> None:
        super().__init__([f"s{k}" for k in range(len(sizes))], sizes, buffer)
        self.firsts = np.cumsum([0, *sizes])
        self.num_read = 0

    def read_shard(self, shard, start):
        for number in range(self.firsts[shard] + start, self.firsts[shard + 1]):
            self.num_read += 1
            yield Sample(str(number), encode(number))


@pytest.fixture
def shards(tmp_path) -> Path:
    root = tmp_path / "shards"
    root.mkdir()
    for shard, (first, last) in enumerate([(0, 5), (5, 6), (6, 17)]):
        write_shard(root / f"part-{shard:03}.tar", range(first, last))
    return root


@pytest.fixture
def url(tmp_path):
    """Serves the folder, without ranges: as plain web servers do."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def epoch_of(sizes, buffer, batch_size, seed=0, epoch=0, processes=1, done=0) -> list[list[Draw]]:
    return [
        list(StreamSampler(np.array(sizes), buffer, batch_size, seed, processes, rank, lambda: (epoch, done)))
        for rank in range(processes)
    ]


sizes_of_shards = st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any)


@given(sizes_of_shards, st.integers(1, 20), st.integers(1, 5), st.integers(1, 4))
def test_an_epoch_visits_every_image_once_but_for_whole_batches(sizes, buffer, batch_size, processes):
    dealt = epoch_of(sizes, buffer, batch_size, processes=processes)
    assert len({len(part) for part in dealt}) == 1 and len(dealt[0]) % batch_size == 0
    visits = [draw for part in dealt for draw in part]
    assert {draw.position for draw in visits} == set(range(sum(sizes)))
    assert len(set(visits)) == len(visits) < sum(sizes) + batch_size * processes
    assert sorted(draw.position for draw in visits if draw.repeat == 0) == list(range(sum(sizes)))


@given(sizes_of_shards, st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.data())
def test_resumed_twice_an_epoch_goes_on_where_it_stopped(sizes, buffer, batch_size, processes, data):
    whole = epoch_of(sizes, buffer, batch_size, epoch=3, processes=processes)
    num_batches = len(whole[0]) // batch_size
    for done in sorted(data.draw(st.lists(st.integers(0, num_batches), min_size=2, max_size=2))):
        resumed = epoch_of(sizes, buffer, batch_size, epoch=3, processes=processes, done=done)
        assert resumed == [part[done * batch_size :] for part in whole]


def test_the_order_depends_on_seed_and_epoch():
    orders = {tuple(epoch_of([30, 30], 8, 4, seed=s, epoch=e)[0]) for s in range(3) for e in range(3)}
    assert len(orders) == 9
    assert epoch_of([30, 30], 8, 4, seed=1, epoch=2) == epoch_of([30, 30], 8, 4, seed=1, epoch=2)


@given(st.lists(st.integers(100, 400), min_size=1, max_size=4), st.integers(10, 40), st.integers(1, 9))
def test_within_a_lane_no_image_is_further_from_its_place_than_the_buffer(sizes, buffer, batch_size):
    sampler = StreamSampler(np.array(sizes), buffer, batch_size, 0, 1, 0)
    places = sampler._order(0).reshape(-1, batch_size)
    lanes = [lane for lane in range(MAX_LANES + 1) if 2**lane * buffer <= places.size and 2**lane <= MAX_LANES]
    num_lanes = 2 ** max(lanes, default=0)
    begun = 0
    for lane in range(num_lanes):
        visited = places[lane::num_lanes].ravel()
        assert np.abs(visited - np.arange(begun, begun + len(visited))).max() < buffer
        begun += len(visited)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
@pytest.mark.parametrize("sizes", [[2000], [500] * 4, [100] * 20])
def test_an_epoch_reads_little_more_than_every_image_once(sizes, num_workers):
    buffer, batch_size = 32, 8
    (draws,) = epoch_of(sizes, buffer, batch_size)
    batches = [draws[at : at + batch_size] for at in range(0, len(draws), batch_size)]
    read = 0
    for worker in range(num_workers):
        stream = Numbers(sizes, buffer)
        for batch in batches[worker::num_workers]:
            for draw in batch:
                assert blue(stream.load(draw.position)) == draw.position % 256
        read += stream.num_read
    assert sum(sizes) <= read < 1.35 * sum(sizes) + 2 * MAX_LANES * buffer


def test_any_image_can_be_asked_for_and_memory_is_bounded():
    stream = Numbers([50, 1, 0, 300], buffer=4)
    for index in np.random.default_rng(0).permutation(len(stream)):
        assert blue(stream.load(int(index))) == index % 256
        assert len(stream._kept) <= (MAX_LANES + 1) * 4 + 8
    with pytest.raises(IndexError, match="image 351 is out of range: the stream has 351"):
        stream.load(351)
    with pytest.raises(ValueError, match="buffer=0 must be at least 1"):
        Numbers([3], 0)
    with pytest.raises(ValueError, match="no image in 2 shards"):
        Numbers([0, 0], 1)


def test_folder_pattern_list_and_copy(shards):
    source = TarShards(str(shards), buffer=3)
    assert source.sizes == {"part-000.tar": 5, "part-001.tar": 1, "part-002.tar": 11}
    assert [blue(source.load(i)) for i in range(17)] == list(range(17))
    assert source.load(3).mode == "RGB" and source.name(7) == "part-002.tar#1"
    assert blue(pickle.loads(pickle.dumps(source)).load(12)) == 12
    for shards_of in (f"{shards}/part-{{000..002}}.tar", f"{shards}/part-*.tar", [f"{shards}/part-000.tar"]):
        again = TarShards(shards_of)
        assert [blue(again.load(i)) for i in (4, 0, 2)] == [4, 0, 2]
    assert len(again) == 5


def test_compressed_shards(tmp_path):
    write_shard(tmp_path / "a.tar.gz", range(6))
    source = TarShards(str(tmp_path))
    assert [blue(source.load(i)) for i in (3, 5, 0)] == [3, 5, 0]


def test_shards_over_http(shards, url):
    source = TarShards(f"{url}/shards/part-{{000..002}}.tar")
    assert [blue(source.load(i)) for i in (16, *range(16))] == [16, *range(16)]


def test_shards_of_any_file_system_that_fsspec_knows(shards):
    """As S3 and GCS are: a folder that is listed, files that are read from it, no local path."""
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/bucket/shards", recursive=True)
    try:
        for place in ("memory://bucket/shards", "memory://bucket/shards/part-{000..002}.tar"):
            source = TarShards(place)
            assert [blue(source.load(i)) for i in (16, *range(16))] == [16, *range(16)]
    finally:
        memory.rm("/bucket", recursive=True)


def test_sizes_that_are_told_are_believed(shards, url):
    (shards / "sizes.json").write_text(json.dumps({"part-000.tar": 5, "part-001.tar": 1, "part-002.tar": 12}))
    for place in (str(shards), f"{url}/shards/part-{{000..002}}.tar"):
        source = TarShards(place)
        assert len(source) == 18 and blue(source.load(16)) == 16
        with pytest.raises(
            RuntimeError, match=r"shard part-002\.tar cannot be read up to image 11: it ends at image 11"
        ):
            source.load(17)
    (shards / "sizes.json").write_text('{"part-000.tar": "many"}')
    with pytest.raises(ValueError, match=r"sizes\.json must hold"):
        TarShards(str(shards))


def test_damaged_image_is_named_and_damaged_shard_refused(shards, tmp_path):
    write_shard(shards / "part-003.tar", range(17, 20), broken=18)
    source = TarShards(str(shards))
    with pytest.raises(OSError, match=r"cannot read image part-003\.tar#1 \(set/00018\.png\)"):
        source.load(18)
    assert blue(source.load(19)) == 19
    (shards / "part-004.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(OSError, match=r"cannot read shard part-004\.tar"):
        TarShards(str(shards))
    for missing in (f"{tmp_path}/none-{{0..3}}.tar", f"{tmp_path}/none", f"{tmp_path}/*.tar"):
        with pytest.raises(FileNotFoundError, match="no (tar )?shard at .*"):
            TarShards(missing)


def test_shard_that_is_lost_ends_the_run(shards):
    source = TarShards(str(shards))
    (shards / "part-002.tar").unlink()
    assert blue(source.load(4)) == 4
    with pytest.raises(RuntimeError, match=r"shard part-002\.tar cannot be read up to image 0: .*resume"):
        source.load(6)


def data(shards: Path, **options) -> UnlabeledImages:
    settings = {"crop_size": 8, "patch": 8, "margin": 1, "batch_size": 2, "num_workers": 0, "held_out": 4, "flip": True}
    return UnlabeledImages(TarShards(str(shards), buffer=3), **(settings | options))


def test_the_first_images_of_a_stream_are_held_out_and_each_other_is_trained_on(shards):
    module = Recorder()
    fit(module, data(shards), max_epochs=2)
    assert [int(image[2, 5, 5]) for batch in module.measured[:2] for image in batch] == [0, 1, 2, 3]
    epochs = [[int(image[2, 5, 5]) for batch in module.seen[7 * e : 7 * e + 7] for image in batch] for e in range(2)]
    for epoch in epochs:
        assert sorted(set(epoch)) == list(range(4, 17)) and len(epoch) == 14
    assert epochs[0] != epochs[1]


def test_loader_processes_change_nothing_and_a_run_resumed_twice_sees_what_an_uninterrupted_one_would(shards, tmp_path):
    whole = Recorder(schedule=True)
    fit(whole, data(shards), max_epochs=2, callbacks=[SaveOften(tmp_path)])
    assert len(whole.seen) == 14
    for num_workers in (0, 2):
        first = Recorder(schedule=True)
        fit(first, data(shards, num_workers=num_workers), ckpt_path=tmp_path / "step03.ckpt", max_steps=9)
        (tmp_path / "again").mkdir(exist_ok=True)
        stop = Recorder(schedule=True)
        fit(
            stop,
            data(shards, num_workers=num_workers),
            ckpt_path=tmp_path / "step03.ckpt",
            max_epochs=2,
            callbacks=[SaveOften(tmp_path / "again")],
        )
        second = Recorder(schedule=True)
        fit(second, data(shards, num_workers=num_workers), ckpt_path=tmp_path / "again/step09.ckpt", max_epochs=2)
        assert (
            same(first.seen, whole.seen[3:9]) and same(stop.seen, whole.seen[3:]) and same(second.seen, whole.seen[9:])
        )


def test_what_is_damaged_in_a_stream_is_named_and_replaced(shards):
    write_shard(shards / "part-001.tar", range(5, 6), broken=5)
    module, datamodule = Recorder(), data(shards)
    with pytest.warns(UserWarning, match=r"cannot read image part-001\.tar#0"):
        fit(module, datamodule, max_epochs=1)
    assert datamodule.num_unreadable == 1 and len(module.seen) == 7
