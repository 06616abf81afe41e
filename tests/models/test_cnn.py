import numpy as np
import pytest
import torch
from torch import nn

from models.cnn import build, family, load_weights, state_to_weights
from models.data import Dataset, normalise
from models.errors import UnknownArchitecture, WeightsDiffer
from models.evaluate import Evaluator
from models.registry import Architecture, architecture, architectures


@pytest.mark.parametrize(("name", "depth"), [("cnn6", 6), ("cnn10", 10), ("cnn14", 14)])
def test_a_family_has_its_number_of_convolutions_and_pools_and_drops_out(name: str, depth: int) -> None:
    modules = list(build(architecture(name, (1, 28, 28))).modules())
    assert sum(isinstance(module, nn.Conv2d) for module in modules) == depth
    assert any(isinstance(module, nn.MaxPool2d) for module in modules)
    assert any(isinstance(module, nn.Dropout) for module in modules)


@pytest.mark.parametrize("arch", architectures(), ids=lambda arch: arch.name)
def test_the_state_is_exactly_the_described_tensors(arch: Architecture) -> None:
    network = build(arch, seed=1)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    weights = state_to_weights(network)
    assert [(name, tensor.shape) for name, tensor in weights.items()] == [
        (spec.name, spec.shape) for spec in arch.tensors
    ]


def test_a_seed_fixes_the_weights_and_leaves_torch_alone(cnn6: Architecture) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (state_to_weights(build(cnn6, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["conv1.weight"], other["conv1.weight"])


def test_weights_come_back_as_they_were_and_are_copies(cnn6: Architecture) -> None:
    source, target = build(cnn6, seed=1), build(cnn6, seed=2).to(memory_format=torch.channels_last)
    weights = state_to_weights(source)
    load_weights(target, weights)
    back = state_to_weights(target)
    assert all(np.array_equal(weights[name], back[name]) for name in weights)
    assert all(tensor.flags.c_contiguous for tensor in back.values())
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    assert back["conv1.weight"].any()
    assert weights["conv1.weight"].any()


def test_weights_of_another_network_are_refused(cnn6: Architecture) -> None:
    network = build(cnn6)
    weights = state_to_weights(network)
    for wrong in (
        {},
        weights | {"more": np.zeros(1, np.float32)},
        weights | {"head.bias": np.zeros(9, np.float32)},
    ):
        with pytest.raises(WeightsDiffer, match="not of this network"):
            load_weights(network, wrong)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(UnknownArchitecture, match="cnn14"):
        family("resnet")


@pytest.mark.parametrize(("name", "steps"), [("cnn6", 400), ("cnn14", 600)])
def test_a_family_learns_real_images(name: str, steps: int, fashion_mnist: Dataset) -> None:
    arch = architecture(name, (1, 28, 28))
    network = build(arch, seed=3)
    torch.manual_seed(3)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    rng = np.random.default_rng(3)
    for _ in range(steps):
        rows = np.sort(rng.integers(0, 20_000, 32))
        images = torch.from_numpy(normalise(fashion_mnist.train_images[rows]))
        labels = torch.from_numpy(fashion_mnist.train_labels[rows].astype(np.int64))
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    measured = Evaluator(arch).accuracy(
        state_to_weights(network), fashion_mnist.test_images[:2000], fashion_mnist.test_labels[:2000]
    )
    assert measured.accuracy > 0.7
