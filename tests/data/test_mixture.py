"""Several sources as one."""

import pytest
import yaml

from srt_distill.cli import main
from srt_distill.data import FileList, ImageFolder, Mixture, UnlabeledImages


@pytest.fixture
def folders(tmp_path):
    from PIL import Image

    for name, count, shade in (("new", 6, 200), ("old", 10, 40)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (40, 40), (shade, i, 0)).save(tmp_path / name / f"{i}.png")
    return tmp_path / "new", tmp_path / "old"


def test_a_mixture_is_its_sources_one_after_the_other(folders):
    new, old = (ImageFolder(folder) for folder in folders)
    mixture = Mixture([new, old])
    assert len(mixture) == 16
    assert [mixture.name(i) for i in (0, 5, 6, 15)] == ["0:0.png", "0:5.png", "1:0.png", "1:9.png"]
    assert [mixture.load(i).getpixel((0, 0)) for i in (5, 6, 15)] == [(200, 5, 0), (40, 0, 0), (40, 9, 0)]
    with pytest.raises(IndexError, match="index 16 is out of range for 16"):
        mixture.name(16)


def test_a_number_of_images_is_spread_evenly(folders):
    new, old = (ImageFolder(folder) for folder in folders)
    mixture = Mixture([new, old], num_images=[None, 5])
    names = [mixture.name(i) for i in range(len(mixture))]
    assert names == [*(f"0:{i}.png" for i in range(6)), *(f"1:{i}.png" for i in (0, 2, 4, 6, 8))]
    data = UnlabeledImages(mixture, crop_size=16, margin=0, num_workers=0, batch_size=4, held_out=2)
    data.setup("fit")
    reds = {int(v) for batch in data.train_dataloader() for v in batch[:, 0, 0, 0]}
    assert reds == {200, 40}


def test_what_does_not_go_together_is_refused(folders):
    new, old = (ImageFolder(folder) for folder in folders)
    with pytest.raises(ValueError, match="no sources"):
        Mixture([])
    with pytest.raises(ValueError, match="1 num_images for 2 sources"):
        Mixture([new, old], num_images=[3])
    with pytest.raises(ValueError, match="7 images cannot be taken from a source of 6"):
        Mixture([new, old], num_images=[7, None])


def test_yaml_names_the_sources(folders, tmp_path, capsys):
    new, old = folders
    (tmp_path / "list.txt").write_text("\n".join(str(path) for path in sorted(old.iterdir())))
    sources = [
        {"class_path": "ImageFolder", "init_args": {"root": str(new)}},
        {"class_path": "FileList", "init_args": {"path": str(tmp_path / "list.txt")}},
    ]
    settings = {
        "data": {"source": {"class_path": "Mixture", "init_args": {"sources": sources, "num_images": [None, 3]}}}
    }
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(tmp_path / "mixed.yaml"), "--model.backbone", "test_vit", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]["source"]
    assert printed["class_path"] == "srt_distill.data.Mixture"
    found = [source["class_path"] for source in printed["init_args"]["sources"]]
    assert found == ["srt_distill.data.ImageFolder", "srt_distill.data.FileList"]
    assert len(FileList(tmp_path / "list.txt")) == 10
