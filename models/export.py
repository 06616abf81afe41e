"""From a PyTorch network to the weight-less ONNX graph that validators run.

The graph takes uint8 images (N, C, H, W), normalises them, and gives float32 logits (N, classes). Its
initializers have names and shapes and no values: they refer to a file that does not exist, so a session
that is not given every weight cannot start. Names inside are numbered and the exporter's traces removed,
so that the same network gives the same bytes: their digest is part of the protocol.

This module imports torch and onnx.
"""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from models.cnn import family as family_named
from models.data import CENTRE, SPREAD
from models.errors import ExportFailed
from models.evaluate import INPUT, OUTPUT
from models.registry import architecture_name, describe

OPSET = 17
IR_VERSION = 8
WEIGHTS_ELSEWHERE = "weights-come-from-a-snapshot"
PREFIX = "network."


class _Deployed(nn.Module):
    """A network with its input normalisation, as `models.data.normalise` has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images.to(torch.float32) - CENTRE) * (1 / SPREAD))
        return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedGraph:
    """A graph file and the description beside it, as bytes."""

    name: str
    graph: bytes
    description: bytes


def export(family: str, input_shape: tuple[int, int, int], classes: int = 10) -> ExportedGraph:
    """Return the weight-less graph of a family's network for images (channels, height, width).

    Raises UnknownArchitecture; ExportFailed if a state tensor is not float32 or the exporter dropped,
    merged or renamed one.
    """
    network = family_named(family)(input_shape, classes).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32:
            raise ExportFailed(f"{name} of {family} is {tensor.dtype}: every state tensor must be float32")
    _make_distinct(network)
    model = onnx.load_from_string(_traced(network, input_shape))
    _check_initializers(model, shapes, family)
    graph = _canonical(model, input_shape, classes).SerializeToString(deterministic=True)
    return ExportedGraph(
        name=architecture_name(family, input_shape, classes),
        graph=graph,
        description=describe(family, input_shape, classes, shapes, graph),
    )


def export_to(folder: Path, family: str, input_shape: tuple[int, int, int], classes: int = 10) -> Path:
    """Write a graph and its description into `folder` and return the path of the graph.

    In `registry.user_graphs()` the registry finds them. Errors as `export`, and OSError.
    """
    exported = export(family, input_shape, classes)
    folder.mkdir(parents=True, exist_ok=True)
    graph = folder / f"{exported.name}.onnx"
    graph.write_bytes(exported.graph)
    graph.with_suffix(".json").write_bytes(exported.description)
    return graph


def _make_distinct(network: nn.Module) -> None:
    """Give every tensor its own values: the exporter merges equal ones, such as biases of zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def _traced(network: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        traced = Path(folder) / "traced.onnx"
        # The TorchScript exporter is deprecated; it is the one that keeps every tensor and its name.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _Deployed(network),
            (torch.zeros((2, *input_shape), dtype=torch.uint8),),
            traced,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            do_constant_folding=False,
            dynamo=False,
        )
        return traced.read_bytes()


def _check_initializers(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], family: str) -> None:
    found = {initializer.name.removeprefix(PREFIX): tuple(initializer.dims) for initializer in model.graph.initializer}
    if found != shapes:
        odd = sorted(name for name in {*found, *shapes} if found.get(name) != shapes.get(name))
        raise ExportFailed(f"the exported graph of {family} differs from its state in {', '.join(odd)}")


def _canonical(model: onnx.ModelProto, input_shape: tuple[int, int, int], classes: int) -> onnx.ModelProto:
    names = {initializer.name: initializer.name.removeprefix(PREFIX) for initializer in model.graph.initializer}
    names |= {INPUT: INPUT, OUTPUT: OUTPUT, "": ""}
    nodes = []
    for node in model.graph.node:
        for output in node.output:
            names.setdefault(output, f"~{len(names)}")  # no tensor of a network is called so
        plain = helper.make_node(
            node.op_type, [names[name] for name in node.input], [names[name] for name in node.output]
        )
        plain.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(plain)
    for initializer in model.graph.initializer:
        initializer.name = names[initializer.name]
    weights = sorted(model.graph.initializer, key=lambda weight: weight.name)
    graph = helper.make_graph(
        nodes,
        "idml",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, ["n", *input_shape])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["n", classes])],
        weights,
    )
    canonical = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="idml")
    canonical.ir_version = IR_VERSION
    onnx.checker.check_model(canonical)
    for weight in canonical.graph.initializer:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=WEIGHTS_ELSEWHERE)
    return canonical
