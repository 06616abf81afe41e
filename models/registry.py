"""Architectures by name: the tensors each one has, and the weight-less ONNX graph that runs them.

A graph is trusted code: it ships with the kit (`models/graphs`) or the operator exported it
(`idml-models export`); peers send weights only. No torch here.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import platformdirs

from models.errors import ArchitectureDamaged, UnknownArchitecture

SHIPPED_GRAPHS = Path(__file__).parent / "graphs"
ENTRY_POINT_GROUP = "idml.architectures"
DEFAULT_CLASSES = 10
DESCRIPTION_FORMAT = 1
MAX_DESCRIPTION_BYTES = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One float32 tensor of a network's state."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights.

    `input_shape` is (channels, height, width) of uint8 images; `tensors` are sorted by name; `digest`
    is the SHA-256 of the graph file, which two devices compare before they trust each other's votes.
    """

    name: str
    family: str
    input_shape: tuple[int, int, int]
    classes: int
    tensors: tuple[TensorSpec, ...]
    graph: Path
    digest: bytes

    @property
    def parameters(self) -> int:
        """Number of values in a snapshot."""
        return sum(tensor.size for tensor in self.tensors)


def architecture_name(family: str, input_shape: tuple[int, int, int], classes: int = DEFAULT_CLASSES) -> str:
    """Return e.g. "cnn6-28x28x1", or "cnn6-28x28x1-37" where the classes are not ten."""
    channels, height, width = input_shape
    suffix = "" if classes == DEFAULT_CLASSES else f"-{classes}"
    return f"{family}-{height}x{width}x{channels}{suffix}"


def architecture(family: str, input_shape: tuple[int, int, int], classes: int = DEFAULT_CLASSES) -> Architecture:
    """Return the architecture of `family` for images of `input_shape` (channels, height, width).

    Raises UnknownArchitecture, or ArchitectureDamaged if its files disagree.
    """
    return named(architecture_name(family, input_shape, classes))


def named(name: str) -> Architecture:
    """Return the architecture called `name`, e.g. "cnn10-32x32x3"; errors as `architecture`."""
    if NAME.fullmatch(name):  # it may come from a peer, and becomes part of a path
        for folder in graph_folders():
            description = folder / f"{name}.json"
            if description.is_file():
                return _read(description)
    known = ", ".join(found.name for found in architectures())
    raise UnknownArchitecture(
        f"no architecture {name!r} (known: {known}); export your own with: idml-models export FAMILY --input CxHxW"
    )


def architectures() -> tuple[Architecture, ...]:
    """Return every shipped or exported architecture, by family, input and number of classes."""
    found = {
        description.stem: _read(description)
        for folder in reversed(graph_folders())
        if folder.is_dir()
        for description in folder.glob("*.json")
    }
    return tuple(sorted(found.values(), key=_order))


def families() -> tuple[str, ...]:
    """Return the names of the families that can be built and exported (entry points), sorted."""
    return tuple(sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)))


def graph_folders() -> tuple[Path, ...]:
    """Return where graphs are looked for: the shipped ones first, so that nothing replaces them."""
    return (SHIPPED_GRAPHS, user_graphs())


def user_graphs() -> Path:
    """Return where `idml-models export` writes: $IDML_GRAPHS, else the user's data directory."""
    chosen = os.environ.get("IDML_GRAPHS")
    return Path(chosen) if chosen else platformdirs.user_data_path("idml") / "graphs"


def describe(
    family: str,
    input_shape: tuple[int, int, int],
    classes: int,
    shapes: Mapping[str, tuple[int, ...]],
    graph: bytes,
) -> bytes:
    """Return the JSON text that lies beside a graph file; equal input gives equal bytes."""
    description = {
        "format": DESCRIPTION_FORMAT,
        "name": architecture_name(family, input_shape, classes),
        "family": family,
        "input_shape": list(input_shape),
        "classes": classes,
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
        "tensors": {name: list(shapes[name]) for name in sorted(shapes)},
    }
    text = json.dumps(description, indent=1)
    one_line_lists = re.sub(r"\[[^\]]*\]", lambda found: "".join(found[0].split()), text)
    return one_line_lists.encode() + b"\n"


def _read(description: Path) -> Architecture:
    graph = description.with_suffix(".onnx")
    try:
        fields = json.loads(description.read_bytes()[:MAX_DESCRIPTION_BYTES])
        channels, height, width = (int(extent) for extent in fields["input_shape"])
        found = Architecture(
            name=str(fields["name"]),
            family=str(fields["family"]),
            input_shape=(channels, height, width),
            classes=int(fields["classes"]),
            tensors=tuple(_tensors(fields["tensors"])),
            graph=graph,
            digest=bytes.fromhex(fields["graph_sha256"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArchitectureDamaged(f"{description} is no description of a graph ({error}); {_cure(graph)}") from error
    read_graph(found)
    if found.name != description.stem or fields["format"] != DESCRIPTION_FORMAT:
        raise ArchitectureDamaged(f"{description} describes {found.name!r} in another format or place; {_cure(graph)}")
    return found


def read_graph(architecture: Architecture) -> bytes:
    """Return the bytes of the graph file, checked against the digest.

    Raises ArchitectureDamaged.
    """
    try:
        graph = architecture.graph.read_bytes()
    except OSError as error:
        raise ArchitectureDamaged(
            f"cannot read {architecture.graph} ({error.strerror}); {_cure(architecture.graph)}"
        ) from error
    found = hashlib.sha256(graph).digest()
    if found != architecture.digest:
        raise ArchitectureDamaged(
            f"{architecture.graph} has SHA-256 {found.hex()}, "
            f"expected {architecture.digest.hex()}; {_cure(architecture.graph)}"
        )
    return graph


def _tensors(shapes: Mapping[str, list[int]]) -> Iterator[TensorSpec]:
    for name in sorted(shapes):
        yield TensorSpec(name=name, shape=tuple(int(extent) for extent in shapes[name]))


def _cure(graph: Path) -> str:
    return "reinstall idml" if graph.parent == SHIPPED_GRAPHS else "export it again with: idml-models export"


def _order(architecture: Architecture) -> tuple[int, str, tuple[int, int, int], int]:
    return len(architecture.family), architecture.family, architecture.input_shape, architecture.classes
