"""A folder of one's own images as a dataset: train/CLASS/*.jpg and test/CLASS/*.jpg.

Images are read as they are: nothing is resized or cropped without the owner knowing.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.data import Dataset, Images, Labels
from models.errors import DatasetCorrupt, DatasetMissing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MAX_CLASSES = 256
MAX_SIDE_PIXELS = 1024


def load_folder(path: Path) -> Dataset:
    """Return the images under `path`: labels number the class folders in alphabetical order.

    Images are (N, 1, H, W) if the first one is grey, else (N, 3, H, W). Raises DatasetMissing if a part
    has no images, DatasetCorrupt if class folders, sizes or colours do not agree.
    """
    classes = _classes(path / "train")
    if (tested := _classes(path / "test")) != classes:
        odd = ", ".join(sorted(set(classes) ^ set(tested)))
        raise DatasetCorrupt(f"train and test of {path} have different class folders: {odd} is in one only")
    first = next(_files(path / "train" / classes[0]))
    shape = _shape(first)
    train_images, train_labels = _part(path / "train", classes, first, shape)
    test_images, test_labels = _part(path / "test", classes, first, shape)
    return Dataset(
        name=f"folder:{path}",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=len(classes),
    )


def _classes(part: Path) -> list[str]:
    if not part.is_dir():
        raise DatasetMissing(f"no folder {part}: put images into {part}/CLASS/")
    classes = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and any(_files(entry)))
    if not classes:
        raise DatasetMissing(f"no images in {part}: put {', '.join(sorted(SUFFIXES))} files into {part}/CLASS/")
    if len(classes) > MAX_CLASSES:
        raise DatasetCorrupt(f"{part} has {len(classes)} class folders, at most {MAX_CLASSES} are possible")
    return classes


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES)


def _part(part: Path, classes: list[str], first: Path, shape: tuple[int, int, int]) -> tuple[Images, Labels]:
    listed = [(file, label) for label, name in enumerate(classes) for file in _files(part / name)]
    images = np.empty((len(listed), *shape), np.uint8)
    for row, (file, _) in enumerate(listed):
        _read(file, first, images[row])
    labels = np.array([label for _, label in listed], np.uint8)
    images.flags.writeable = False
    labels.flags.writeable = False
    return images, labels


def _shape(file: Path) -> tuple[int, int, int]:
    try:
        with Image.open(file) as image:
            width, height = image.size
            return (1 if image.mode in ("L", "1") else 3), height, width
    except (OSError, UnidentifiedImageError) as error:
        raise DatasetCorrupt(f"{file} cannot be read as an image: replace or remove it") from error


def _read(file: Path, first: Path, target: Images) -> None:
    channels, height, width = target.shape
    try:
        with Image.open(file) as image:
            if image.size != (width, height) or max(image.size) > MAX_SIDE_PIXELS:
                raise DatasetCorrupt(
                    f"{file} has {image.size[0]}x{image.size[1]} pixels and {first} {width}x{height}: "
                    f"bring all images to one size of at most {MAX_SIDE_PIXELS} a side"
                )
            if channels == 1 and image.mode not in ("L", "1"):
                raise DatasetCorrupt(f"{file} has colours and {first} is grey: bring all images to one of both")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DatasetCorrupt(f"{file} cannot be read as an image: replace or remove it") from error
    target[...] = pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)
