"""Datasets of small uint8 images: Fashion-MNIST, CIFAR-10, and a folder of one's own images.

Fashion-MNIST and CIFAR-10 are read from idx files that are mapped, not loaded: processes share the pages,
and what is never looked at takes no memory. Getting the files is `models.fetch`.
"""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs

from models.errors import DatasetCorrupt, DatasetMissing, UnknownDataset
from models.options import CIFAR_10, DATASETS, FASHION_MNIST, FOLDER_PREFIX, known_datasets

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

CHECKSUMS = "sha256.json"

# Of the unzipped files: compressed copies differ between distributors.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CIFAR_10_FILES = (
    "train-images-idx4-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx4-ubyte",
    "t10k-labels-idx1-ubyte",
)

ROWS_AT_ONCE = 64
CENTRE = 64
SPREAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Images (N, channels, height, width) and labels (N,), both uint8, in a training and a test part.

    Devices train and vote on the training part only; the test part is for measuring.
    """

    name: str
    train_images: Images = field(repr=False)
    train_labels: Labels = field(repr=False)
    test_images: Images = field(repr=False)
    test_labels: Labels = field(repr=False)
    classes: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as an architecture states it."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width


def normalise(images: Images) -> npt.NDArray[np.float32]:
    """Return what a network trains on: (pixel - 64) / 64, the same shape, float32.

    Both numbers are powers of two, so the result is exact, and equals what the graphs compute inside.
    """
    return (images.astype(np.float32) - np.float32(CENTRE)) * np.float32(1 / SPREAD)


def take(images: Images, rows: npt.NDArray[np.int64]) -> Images:
    """Return a copy of some rows, (n, C, H, W).

    The pages of a mapped file that this touches are let go again (the system maps whole neighbourhoods around each
    row, so a device that owns 600 rows would seem to hold the whole dataset).
    """
    taken = np.empty((len(rows), *images.shape[1:]), np.uint8)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        taken[start : start + ROWS_AT_ONCE] = images[rows[start : start + ROWS_AT_ONCE]]
        _let_go(images)
    return taken


def _let_go(images: Images) -> None:
    base: object = images
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def default_root() -> Path:
    """Return where datasets lie: $IDML_DATA, else the user's cache directory."""
    chosen = os.environ.get("IDML_DATA")
    return Path(chosen) if chosen else platformdirs.user_cache_path("idml")


def load(name: str, root: Path | None = None) -> Dataset:
    """Return the dataset `name`: "fashion-mnist", "cifar-10", "folder:PATH", or an entry point's.

    Raises UnknownDataset, DatasetMissing, DatasetCorrupt.
    """
    root = default_root() if root is None else root
    if name == FASHION_MNIST:
        return _idx_dataset(name, verified_folder(name, root), tuple(FASHION_MNIST_SHA256))
    if name == CIFAR_10:
        return _idx_dataset(name, verified_folder(name, root), CIFAR_10_FILES)
    if name.startswith(FOLDER_PREFIX):
        from models.folder import load_folder  # noqa: PLC0415 - Pillow is needed here only

        return load_folder(Path(name.removeprefix(FOLDER_PREFIX)))
    for entry in entry_points(group=DATASETS, name=name):
        source: Callable[[Path], Dataset] = entry.load()
        return source(root)
    raise UnknownDataset(f"no dataset {name!r} (known: {', '.join(known_datasets())}, {FOLDER_PREFIX}PATH)")


def folder_of(name: str, root: Path) -> Path:
    """Return the folder of the idx files; Fashion-MNIST lies where torchvision looks for it."""
    return root / "FashionMNIST" / "raw" if name == FASHION_MNIST else root / name


def verified_folder(name: str, root: Path) -> Path:
    """Return `folder_of` a fetched dataset after a full check of its files (a tenth of a second).

    Raises DatasetMissing if a file is not there, DatasetCorrupt if one has another SHA-256.
    """
    folder = folder_of(name, root)
    files = FASHION_MNIST_SHA256 if name == FASHION_MNIST else dict.fromkeys((*CIFAR_10_FILES, CHECKSUMS), "")
    for file in files:
        if not (folder / file).is_file():
            raise DatasetMissing(f"{name} is not in {root} ({file} is missing); get it with: {retry(name, root)}")
    if name == CIFAR_10:
        files = _recorded_checksums(folder, retry(name, root))
    for file, expected in files.items():
        check_sha256(folder / file, expected, f"remove {folder} and run: {retry(name, root)}")
    return folder


def check_sha256(path: Path, expected: str, cure: str) -> None:
    """Raise DatasetCorrupt unless the file at `path` has the SHA-256 `expected` (hex)."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DatasetCorrupt(f"{path} has SHA-256 {found}, expected {expected}; {cure}")


def retry(name: str, root: Path) -> str:
    """Return the command that fetches `name` into `root`."""
    return f"idml-models fetch {name}" + ("" if root == default_root() else f" --root {root}")


def map_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the uint8 array in the idx file at `path`, mapped and read-only.

    The format is that of the MNIST database: two zero bytes, type 8, the number of dimensions, and each
    dimension as a big-endian 32-bit integer. Raises DatasetCorrupt.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
        dimensions = magic[3] if len(magic) == 4 else 0
        raw_shape = stream.read(4 * dimensions)
    shape = tuple(int.from_bytes(raw_shape[at : at + 4], "big") for at in range(0, len(raw_shape), 4))
    offset = 4 + 4 * dimensions
    if magic[:3] != b"\0\0\x08" or not shape or path.stat().st_size != offset + math.prod(shape):
        raise DatasetCorrupt(f"{path} is no idx file of uint8 values; remove it and fetch the dataset again")
    return np.memmap(path, np.uint8, "r", offset, shape)


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    """Return `values` as the bytes of an idx file."""
    shape = b"".join(extent.to_bytes(4, "big") for extent in values.shape)
    return bytes((0, 0, 8, values.ndim)) + shape + values.tobytes()


def _idx_dataset(name: str, folder: Path, files: tuple[str, ...]) -> Dataset:
    train_images, train_labels, test_images, test_labels = (map_idx(folder / file) for file in files)
    return Dataset(
        name=name,
        train_images=_with_channels(train_images),
        train_labels=train_labels,
        test_images=_with_channels(test_images),
        test_labels=test_labels,
        classes=10,
    )


def _with_channels(images: Images) -> Images:
    return images if images.ndim == 4 else images[:, np.newaxis]


def _recorded_checksums(folder: Path, command: str) -> dict[str, str]:
    try:
        recorded = json.loads((folder / CHECKSUMS).read_text())
        return {file: str(recorded[file]) for file in CIFAR_10_FILES}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetCorrupt(f"{folder / CHECKSUMS} is damaged; remove {folder} and run: {command}") from error
