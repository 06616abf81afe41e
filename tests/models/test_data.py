import hashlib
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import models.data
import models.options
from models.data import (
    CIFAR_10_FILES,
    FASHION_MNIST_SHA256,
    Dataset,
    Images,
    default_root,
    folder_of,
    idx_bytes,
    load,
    map_idx,
    normalise,
)
from models.errors import DatasetCorrupt, DatasetMissing, UnknownDataset


def test_fashion_mnist_is_whole_and_mapped(fashion_mnist: Dataset) -> None:
    assert fashion_mnist.train_images.shape == (60_000, 1, 28, 28)
    assert fashion_mnist.test_images.shape == (10_000, 1, 28, 28)
    assert fashion_mnist.input_shape == (1, 28, 28)
    assert np.bincount(fashion_mnist.train_labels).tolist() == [6000] * 10
    assert np.bincount(fashion_mnist.test_labels).tolist() == [1000] * 10
    assert isinstance(fashion_mnist.train_images.base, np.memmap)
    assert not fashion_mnist.train_images.flags.writeable


def test_normalised_pixels_are_exact(fashion_mnist: Dataset) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert normalise(pixels).ravel().tolist() == [(pixel - 64) / 64 for pixel in range(256)]
    assert normalise(pixels).dtype == np.float32
    some = normalise(fashion_mnist.train_images[:2000])
    assert abs(some.mean()) < 0.5
    assert 0.5 < some.std() < 2


def copied(root: Path) -> Path:
    folder = folder_of("fashion-mnist", root)
    shutil.copytree(folder_of("fashion-mnist", default_root()), folder)
    return folder


@pytest.mark.usefixtures("fashion_mnist")
def test_a_changed_file_is_named_with_both_sums_and_the_cure(tmp_path: Path) -> None:
    changed = copied(tmp_path) / "t10k-labels-idx1-ubyte"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\x07")
    with pytest.raises(DatasetCorrupt) as caught:
        load("fashion-mnist", tmp_path)
    text = str(caught.value)
    assert str(changed) in text
    assert hashlib.sha256(changed.read_bytes()).hexdigest() in text
    assert FASHION_MNIST_SHA256[changed.name] in text
    assert f"idml-models fetch fashion-mnist --root {tmp_path}" in text


@pytest.mark.usefixtures("fashion_mnist")
@pytest.mark.parametrize("name", FASHION_MNIST_SHA256)
def test_a_missing_file_means_not_fetched(tmp_path: Path, name: str) -> None:
    (copied(tmp_path) / name).unlink()
    with pytest.raises(DatasetMissing, match=rf"{name} is missing\); get it with: idml-models fetch"):
        load("fashion-mnist", tmp_path)


def test_the_root_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IDML_DATA", str(tmp_path))
    assert default_root() == tmp_path
    with pytest.raises(DatasetMissing, match=r"get it with: idml-models fetch cifar-10$"):
        load("cifar-10")


def test_an_unknown_dataset_is_refused() -> None:
    with pytest.raises(UnknownDataset, match=r"fashion-mnist, cifar-10.*folder:PATH"):
        load("imagenet")


def test_an_entry_point_can_bring_a_dataset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fashion_mnist: Dataset
) -> None:
    def entry_points(group: str, name: str = "mine") -> list[EntryPoint]:
        return [EntryPoint("mine", f"{__name__}:own_source", group)] if name == "mine" else []

    for module in (models.data, models.options):
        monkeypatch.setattr(module, "entry_points", entry_points)
    assert load("mine", tmp_path).name == str(tmp_path)
    assert "mine" in models.options.known_datasets()


def own_source(root: Path) -> Dataset:
    nothing = np.zeros((0, 1, 2, 2), np.uint8)
    labels = np.zeros(0, np.uint8)
    return Dataset(
        name=str(root),
        train_images=nothing,
        train_labels=labels,
        test_images=nothing,
        test_labels=labels,
        classes=2,
    )


@given(values=hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4)))
def test_an_idx_file_is_read_back(tmp_path_factory: pytest.TempPathFactory, values: Images) -> None:
    path = tmp_path_factory.getbasetemp() / "some-idx"
    path.write_bytes(idx_bytes(values))
    found = map_idx(path)
    np.testing.assert_array_equal(found, values)
    path.write_bytes(idx_bytes(values) + b"\0")
    with pytest.raises(DatasetCorrupt):
        map_idx(path)


@given(data=st.binary(max_size=40))
def test_bytes_of_any_kind_are_corrupt_and_nothing_worse(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-idx"
    path.write_bytes(data)
    try:
        values = map_idx(path)
    except DatasetCorrupt:
        return
    assert idx_bytes(values) == data


def test_a_damaged_record_of_checksums_is_corrupt(tmp_path: Path) -> None:
    folder = folder_of("cifar-10", tmp_path)
    folder.mkdir()
    for name in (*CIFAR_10_FILES, models.data.CHECKSUMS):
        (folder / name).write_bytes(b"{")
    with pytest.raises(DatasetCorrupt, match="idml-models fetch cifar-10"):
        load("cifar-10", tmp_path)
