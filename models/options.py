"""What can be chosen by name: codecs, merges, datasets. Nothing here computes, so that who only chooses stays light."""

from enum import StrEnum
from importlib.metadata import entry_points

DATASETS = "idml.datasets"
"""Group of the entry points that add datasets."""
FASHION_MNIST = "fashion-mnist"
CIFAR_10 = "cifar-10"
FOLDER_PREFIX = "folder:"


class Codec(StrEnum):
    """How each weight is stored. INT8 is the default on the air: 4 times smaller than FLOAT32."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class Merge(StrEnum):
    """How a device joins its own weights with a neighbor's."""

    MEAN = "mean"
    AGE_WEIGHTED = "age-weighted"
    LIMITED = "limited"


def known_datasets() -> tuple[str, ...]:
    """Return the names `models.data.load` knows, without the folders of images."""
    return (FASHION_MNIST, CIFAR_10, *sorted(entry.name for entry in entry_points(group=DATASETS)))
