"""CIFAR-10's published archive as idx files.

The archive holds Python pickles, which can run code when they are read. They are read here by a
deserialiser that knows numpy arrays and refuses everything else, after a check of the archive's SHA-256.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from models.data import CIFAR_10_FILES, check_sha256, idx_bytes
from models.errors import DatasetCorrupt

ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"{FOLDER}/data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = (f"{FOLDER}/test_batch",)
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def cifar_files(archive: Path, expected_sha256: str = ARCHIVE_SHA256) -> dict[str, bytes]:
    """Return the idx files, by name, of CIFAR-10's Python archive.

    Raises DatasetCorrupt if the archive is not the published one; OSError and tarfile.TarError.
    """
    check_sha256(archive, expected_sha256, "remove it, and fetch cifar-10 again")
    with tarfile.open(archive) as opened:
        parts = [_joined([_member(opened, name) for name in names]) for names in (TRAIN_BATCHES, TEST_BATCHES)]
    values = [part for images_and_labels in parts for part in images_and_labels]
    return {file: idx_bytes(array) for file, array in zip(CIFAR_10_FILES, values, strict=True)}


def read_batch(
    pickled: bytes,
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Return images (N, 3, 32, 32) and labels (N,) of one batch file; raises DatasetCorrupt."""
    try:
        batch = _ArraysOnly(io.BytesIO(pickled), encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = np.asarray(batch[b"labels"], np.uint8)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetCorrupt(f"a batch of CIFAR-10 is not as published ({error}); fetch cifar-10 again") from error
    return images, labels


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images") from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise DatasetCorrupt(f"the archive of CIFAR-10 has no {name}; fetch cifar-10 again")
    return stream.read()


def _joined(
    batches: list[bytes],
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.uint8]]]:
    images, labels = zip(*(read_batch(batch) for batch in batches), strict=True)
    return np.concatenate(images), np.concatenate(labels)
