import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data import load
from models.errors import DatasetCorrupt, DatasetMissing


def put(path: Path, value: int, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 255 - value)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee", "cat")):
            for number in range(2 if part == "train" else 1):
                put(tmp_path / part / name / f"{number}.png", 10 * label + number)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_of_images_is_a_dataset(animals: Path) -> None:
    data = load(f"folder:{animals}")
    assert data.train_images.shape == (6, 3, 4, 5)
    assert data.input_shape == (3, 4, 5)
    assert data.classes == 3
    assert data.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test_labels.tolist() == [0, 1, 2]
    assert data.train_images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert data.train_images[:, 2, 3, 4].tolist() == [255, 254, 245, 244, 235, 234]


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            put(tmp_path / part / name / "0.png", 7, mode="L")
    assert load(f"folder:{tmp_path}").input_shape == (1, 4, 5)
    put(tmp_path / "test" / "b" / "1.png", 7)
    with pytest.raises(DatasetCorrupt, match=r"1\.png has colours"):
        load(f"folder:{tmp_path}")


def test_sizes_that_differ_are_said_and_not_repaired(animals: Path) -> None:
    put(animals / "test" / "cat" / "9.png", 1, size=(6, 4))
    with pytest.raises(DatasetCorrupt, match=r"9\.png has 6x4 pixels and .*0\.png 5x4"):
        load(f"folder:{animals}")


def test_classes_that_differ_are_said(animals: Path) -> None:
    put(animals / "test" / "dog" / "0.png", 1)
    with pytest.raises(DatasetCorrupt, match="dog is in one only"):
        load(f"folder:{animals}")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n cut off"])
def test_a_file_that_is_no_image_is_named(animals: Path, content: bytes) -> None:
    (animals / "train" / "bee" / "5.png").write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=r"5\.png cannot be read"):
        load(f"folder:{animals}")


def test_a_cut_off_image_is_named(animals: Path) -> None:
    whole = (animals / "train" / "bee" / "1.png").read_bytes()
    (animals / "train" / "bee" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetCorrupt, match=r"1\.png cannot be read"):
        load(f"folder:{animals}")


def test_no_images_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing, match="put images into"):
        load(f"folder:{tmp_path}")
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetMissing, match="no images in"):
        load(f"folder:{tmp_path}")


def test_real_colour_images_are_read(tmp_path: Path, cifar_archive: Path) -> None:
    wanted = 0
    with tarfile.open(cifar_archive) as images:
        for member in images:  # in order, training images of the first class first
            if member.isfile():
                images.extract(member, tmp_path, filter="data")
                wanted += 1
            if wanted == 50:
                break
    (train_class,) = (tmp_path / "train").iterdir()
    put(tmp_path / "test" / train_class.name / "0.png", 1, size=(32, 32))
    data = load(f"folder:{tmp_path}")
    assert data.train_images.shape == (50, 3, 32, 32)
    assert 60 < data.train_images.mean() < 200
    assert np.unique(data.train_images).size > 200
