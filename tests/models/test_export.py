from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import models.export
from models.cnn import build, state_to_weights
from models.errors import ExportFailed
from models.evaluate import Evaluator
from models.export import export, export_to
from models.registry import SHIPPED_GRAPHS, Architecture, architecture, architectures, named

SHIPPED = [arch for arch in architectures() if arch.graph.parent == SHIPPED_GRAPHS]


@pytest.mark.parametrize("arch", SHIPPED, ids=lambda arch: arch.name)
def test_a_shipped_graph_is_what_an_export_gives_now(arch: Architecture) -> None:
    exported = export(arch.family, arch.input_shape, arch.classes)
    assert exported.graph == arch.graph.read_bytes()
    assert exported.description == arch.graph.with_suffix(".json").read_bytes()


@pytest.mark.parametrize("arch", SHIPPED, ids=lambda arch: arch.name)
def test_a_shipped_graph_has_every_tensor_and_no_weights(arch: Architecture) -> None:
    model = onnx.load(arch.graph, load_external_data=False)
    found = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    assert found == {spec.name: spec.shape for spec in arch.tensors}
    assert not any(weight.raw_data or weight.float_data for weight in model.graph.initializer)
    assert {weight.data_location for weight in model.graph.initializer} == {onnx.TensorProto.EXTERNAL}
    assert "Dropout" not in {node.op_type for node in model.graph.node}
    assert arch.graph.stat().st_size < 10_000


@pytest.mark.parametrize("arch", SHIPPED, ids=lambda arch: arch.name)
def test_onnx_runtime_and_pytorch_agree(arch: Architecture) -> None:
    network = build(arch, seed=5).eval()
    images = np.random.default_rng(5).integers(0, 256, (7, *arch.input_shape), np.uint8)
    with torch.inference_mode():
        expected = network((torch.from_numpy(images).float() - 64) / 64).numpy()
    found = Evaluator(arch).logits(state_to_weights(network), images, batch_size=3)
    assert np.abs(expected).max() > 0.1
    assert np.abs(found - expected).max() < 1e-4


class TwoHeads(nn.Module):
    """A network whose fresh biases are all zero and of one shape: what an exporter likes to merge."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 4)
        self.second = nn.Linear(4, 4)
        for layer in (self.first, self.second):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(x.flatten(1)))
        return logits


class Unused(TwoHeads):
    """A network with a tensor that its output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))


class Counting(TwoHeads):
    """A network with a state tensor of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))


def use_network(monkeypatch: pytest.MonkeyPatch, network: type[nn.Module]) -> None:
    monkeypatch.setattr(models.export, "family_named", lambda name: lambda shape, classes: network())


def test_equal_tensors_are_all_exported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_network(monkeypatch, TwoHeads)
    monkeypatch.setenv("IDML_GRAPHS", str(tmp_path))
    graph = export_to(tmp_path, "two-heads", (1, 4, 4), classes=4)
    arch = named("two-heads-4x4x1-4")
    assert arch.graph == graph
    assert arch == architecture("two-heads", (1, 4, 4), 4)
    weights = state_to_weights(TwoHeads())
    images = np.full((2, 1, 4, 4), 64, np.uint8)
    for name, shift in (("first.bias", weights["second.weight"].sum(axis=1)), ("second.bias", np.ones(4))):
        moved = weights | {name: np.ones(4, np.float32)}
        np.testing.assert_allclose(Evaluator(arch).logits(moved, images)[0], shift, atol=1e-5)


@pytest.mark.parametrize(("network", "odd"), [(Unused, "spare"), (Counting, "steps")])
def test_a_network_that_a_graph_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, network: type[nn.Module], odd: str
) -> None:
    use_network(monkeypatch, network)
    with pytest.raises(ExportFailed, match=odd):
        export("odd", (1, 4, 4), 4)
