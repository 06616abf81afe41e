import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import models.fetch
from models.cifar import cifar_files, read_batch
from models.data import load
from models.errors import DatasetCorrupt, DatasetMissing
from models.fetch import fetch


def batch(seed: int) -> dict[bytes, object]:
    rng = np.random.default_rng(seed)
    return {
        b"data": rng.integers(0, 256, (4, 3072), np.uint8),
        b"labels": rng.integers(0, 10, 4).tolist(),
        b"batch_label": b"of the published form",
    }


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did, in which CIFAR-10 was published."""

    dispatch: ClassVar[dict[type, object]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)

    dispatch[str] = dispatch[bytes] = save_string


def as_python_2(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of the published form with four images in each batch."""
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for number, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
            content = as_python_2(batch(number))
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_batches_become_mapped_files(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sha256(archive)
    monkeypatch.setattr(models.fetch, "cifar_files", lambda path: cifar_files(path, expected))
    root = archive.parent
    assert fetch("cifar-10", root) == root / "cifar-10"
    data = load("cifar-10", root)
    assert data.train_images.shape == (20, 3, 32, 32)
    assert data.test_labels.tolist() == batch(5)[b"labels"]
    np.testing.assert_array_equal(data.train_images[4:8].reshape(4, -1), batch(1)[b"data"])
    archive.unlink()
    fetch("cifar-10", root)
    labels = root / "cifar-10" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(DatasetCorrupt, match="t10k-labels"):
        load("cifar-10", root)


def test_another_archive_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetCorrupt, match="expected 6d958be0"):
        cifar_files(archive)
    monkeypatch.setattr(models.fetch, "_SOURCES", {"cifar-10": {"by hand": models.fetch._cifar_from_root}})
    with pytest.raises(DatasetMissing, match=r"by hand.*6d958be0"):
        fetch("cifar-10", archive.parent)


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harm",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for hostile in ({b"data": RunsCode()}, {b"data": np.array([RunsCode()], object), b"labels": []}):
        with pytest.raises(DatasetCorrupt, match="has no place"):
            read_batch(pickle.dumps(hostile))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"x", pickle.dumps([]), pickle.dumps({b"data": 1, b"labels": [300]}), json.dumps({}).encode()],
)
def test_a_batch_of_another_form_is_refused(content: bytes) -> None:
    with pytest.raises(DatasetCorrupt):
        read_batch(content)
