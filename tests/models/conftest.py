"""Small architectures and real data for the tests of `models`."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data import Dataset, load
from models.fetch import fetch
from models.registry import Architecture, TensorSpec, architecture
from models.snapshot import Weights

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fashion_mnist() -> Dataset:
    fetch("fashion-mnist")
    return load("fashion-mnist")


@pytest.fixture(scope="session")
def cnn6() -> Architecture:
    return architecture("cnn6", (1, 28, 28))


@pytest.fixture(scope="session")
def tiny() -> Architecture:
    """An architecture of three tensors for arithmetic; no graph belongs to it."""
    return Architecture(
        name="tiny-1x1x1",
        family="tiny",
        input_shape=(1, 1, 1),
        classes=2,
        tensors=(
            TensorSpec(name="a.bias", shape=(3,)),
            TensorSpec(name="a.weight", shape=(2, 3)),
            TensorSpec(name="scalar", shape=()),
        ),
        graph=Path("none.onnx"),
        digest=b"\0" * 32,
    )


@pytest.fixture(scope="session")
def random_weights() -> Callable[..., Weights]:
    """A function (architecture, seed=0) that returns weights such as a network might have."""

    def draw(arch: Architecture, seed: int = 0) -> Weights:
        rng = np.random.default_rng(seed)
        return {
            spec.name: np.asarray(rng.normal(size=spec.shape) / np.sqrt(max(1, math.prod(spec.shape[1:]))), np.float32)
            for spec in arch.tensors
        }

    return draw


@pytest.fixture
def cifar_archive() -> Path:
    """CIFAR-10 as an archive of JPEG files; the test is skipped where the machine has none."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "cifar10-images.tar.xz"
    path = Path(os.environ.get("IDML_TEST_CIFAR10", beside))
    if not path.is_file():
        pytest.skip("no archive of CIFAR-10 images: name one in IDML_TEST_CIFAR10")
    return path
