"""What people point at, told apart by what is there."""

from pathlib import Path

import pytest

from srt_distill.data import DavisFrames, FileList, HuggingFaceImages, ImageFolder, Mixture, TarShards, VideoFrames
from srt_distill.data.recognition import recognise_images

KINDS = {
    "folder": ImageFolder,
    "list": FileList,
    "mp4": VideoFrames,
    "several": Mixture,
    "saved": HuggingFaceImages,
    "shards": TarShards,
    "shard files": TarShards,
}


@pytest.mark.parametrize("name", KINDS)
def test_each_collection_is_what_it_is(name, collections):
    found = recognise_images(collections[name])
    assert type(found.source) is KINDS[name] and len(found.source) == (20 if name == "several" else 10)
    assert found.class_path == f"srt_distill.data.{KINDS[name].__name__}"


@pytest.mark.parametrize("name", ["several", "saved", "shards"])
def test_the_config_rebuilds_the_same_source(name, collections):
    from jsonargparse import ArgumentParser

    from srt_distill.data import ImageSource

    found = recognise_images(collections[name])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--source", type=ImageSource)
    again = parser.instantiate(parser.parse_object({"source": found.config})).source
    assert [again.name(i) for i in range(10)] == [found.source.name(i) for i in range(10)]


def test_davis_is_its_train_split(tiny_davis):
    assert type(recognise_images([str(tiny_davis)]).source) is DavisFrames


def test_a_folder_of_images_and_videos_gives_both(collections, photographs, tmp_path):
    (tmp_path / "a.mp4").symlink_to(collections["mp4"][0])
    (tmp_path / "0.png").symlink_to(photographs / "0.png")
    assert len(recognise_images([str(tmp_path)]).source) == 11


def test_paths_in_configs_are_absolute(photographs, monkeypatch):
    monkeypatch.chdir(photographs.parent)
    assert Path(recognise_images([photographs.name]).init_args["root"]).is_absolute()


@pytest.mark.parametrize(
    ("given", "says"), [([], "no images given"), (["./nowhere"], "there is nothing there; give a folder")]
)
def test_nothing_is_refused_with_what_there_may_be(given, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        recognise_images(given)


def test_one_image_is_no_collection(photographs):
    with pytest.raises(ValueError, match=r"0\.png: this is one image; give the folder"):
        recognise_images([str(photographs / "0.png")])


def test_an_empty_folder_holds_no_video_either(tmp_path):
    with pytest.raises(FileNotFoundError, match="no video"):
        recognise_images([str(tmp_path)])
