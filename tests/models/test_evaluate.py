import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.data import Dataset
from models.errors import ArchitectureDamaged, MalformedSnapshot, SnapshotFault
from models.evaluate import Evaluation, Evaluator
from models.registry import Architecture
from models.snapshot import Weights

IMAGES = np.random.default_rng(0).integers(0, 256, (25, 1, 28, 28), np.uint8)


def test_swapped_weights_change_the_output(random_weights: Callable[..., Weights], cnn6: Architecture) -> None:
    evaluator = Evaluator(cnn6)
    first, second = random_weights(cnn6, 1), random_weights(cnn6, 2)
    out_first = evaluator.logits(first, IMAGES)
    assert np.abs(evaluator.logits(second, IMAGES) - out_first).max() > 0.01
    np.testing.assert_array_equal(evaluator.logits(first, IMAGES), out_first)


@pytest.mark.parametrize("name", ["conv1.bias", "conv4.weight", "head.bias", "pair0.second.weight"])
def test_each_tensor_counts(random_weights: Callable[..., Weights], cnn6: Architecture, name: str) -> None:
    weights = random_weights(cnn6, 1)
    changed = weights | {name: weights[name] + np.float32(0.5)}
    evaluator = Evaluator(cnn6)
    assert np.abs(evaluator.logits(changed, IMAGES) - evaluator.logits(weights, IMAGES)).max() > 1e-3


def test_a_graph_without_weights_cannot_run(cnn6: Architecture) -> None:
    with pytest.raises(Exception, match="weights-come-from-a-snapshot"):
        ort.InferenceSession(cnn6.graph.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    random_weights: Callable[..., Weights], cnn6: Architecture, value: float
) -> None:
    weights = random_weights(cnn6)
    weights["conv2.bias"][3] = value
    with pytest.raises(MalformedSnapshot) as caught:
        Evaluator(cnn6).accuracy(weights, IMAGES, np.zeros(25, np.uint8))
    assert caught.value.reason is SnapshotFault.NOT_FINITE


def test_outputs_that_are_not_finite_are_refused(random_weights: Callable[..., Weights], cnn6: Architecture) -> None:
    weights = {name: np.full_like(tensor, 60_000) for name, tensor in random_weights(cnn6).items()}
    with pytest.raises(MalformedSnapshot, match="outputs") as caught:
        Evaluator(cnn6).predict(weights, np.full((2, 1, 28, 28), 255, np.uint8))
    assert caught.value.reason is SnapshotFault.NOT_FINITE


def test_weights_of_another_architecture_are_refused(cnn6: Architecture) -> None:
    with pytest.raises(MalformedSnapshot):
        Evaluator(cnn6).predict({}, IMAGES)


def test_batches_do_not_matter(
    random_weights: Callable[..., Weights], cnn6: Architecture, fashion_mnist: Dataset
) -> None:
    weights = random_weights(cnn6)
    images, labels = fashion_mnist.test_images[:205], fashion_mnist.test_labels[:205]
    evaluator = Evaluator(cnn6)
    found = {evaluator.accuracy(weights, images, labels, batch_size=size) for size in (1, 100, 1000)}
    expected = int((evaluator.logits(weights, images).argmax(1) == labels).sum())
    assert found == {Evaluation(correct=expected, total=205)}
    assert Evaluation(correct=1, total=4).accuracy == 0.25


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, np.zeros(24, np.uint8)),
        (IMAGES[:0], np.zeros(0, np.uint8)),
        (IMAGES.astype(np.float32), np.zeros(25, np.uint8)),
        (IMAGES[:, :, 1:], np.zeros(25, np.uint8)),
    ],
)
def test_images_that_do_not_fit_are_refused(
    random_weights: Callable[..., Weights], cnn6: Architecture, images: np.ndarray, labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="images"):
        Evaluator(cnn6).accuracy(random_weights(cnn6), images, labels)


def test_a_changed_graph_is_not_run(cnn6: Architecture, tmp_path: Path) -> None:
    changed = tmp_path / "graph.onnx"
    changed.write_bytes(cnn6.graph.read_bytes() + b"\0")
    with pytest.raises(ArchitectureDamaged):
        Evaluator(dataclasses.replace(cnn6, graph=changed))


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "onnx"):
    sys.modules[name] = None
import numpy as np
import models.__main__, models.fetch, models.merge, models.partition
from models.data import load
from models.evaluate import Evaluator
from models.registry import architecture
from models.options import Codec
from models.packing import pack, unpack
from models.snapshot import Weights, decode, encode, size_bytes
arch = architecture("cnn14", (1, 28, 28))
rng = np.random.default_rng(0)
weights = {spec.name: (rng.normal(size=spec.shape) / 20).astype(np.float32) for spec in arch.tensors}
wire = pack(encode(weights, arch, Codec.INT8).data)
received = decode(unpack(wire, size_bytes(arch, Codec.INT8)), arch)
data = load("fashion-mnist")
print(Evaluator(arch).accuracy(received, data.test_images[:3000], data.test_labels[:3000]).total)
status = dict(line.split(":") for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.usefixtures("fashion_mnist")
def test_a_validator_needs_no_torch_and_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    total, peak_mb = map(int, done.stdout.split())
    assert total == 3000
    assert peak_mb < 110
