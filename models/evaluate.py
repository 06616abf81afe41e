"""Measuring weights on images with ONNX Runtime: what a validator does, without torch (iDML steps 4 and 5).

The graph is the kit's own and holds no weights. A session gets them by `add_external_initializers`, which
fails if one is left out. (`add_initializer` on a graph that still holds weights silently runs those.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort  # type: ignore[import-untyped]

from models.data import Images, Labels
from models.errors import MalformedSnapshot, SnapshotFault
from models.registry import Architecture, read_graph
from models.snapshot import check_weights

BATCH_SIZE = 100
INPUT = "images"
OUTPUT = "logits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How many of how many images got their label."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of correct images, 0 to 1."""
        return self.correct / self.total


class Evaluator:
    """Runs weights of one architecture; holds the graph, and no weights between calls."""

    def __init__(self, arch: Architecture, threads: int = 1) -> None:
        """Read the graph of `arch`; raises ArchitectureDamaged."""
        self._arch = arch
        self._graph = read_graph(arch)
        self._threads = threads

    def accuracy(
        self,
        weights: Mapping[str, npt.NDArray[np.float32]],
        images: Images,
        labels: Labels,
        batch_size: int = BATCH_SIZE,
    ) -> Evaluation:
        """Return how many of `images` (N, C, H, W) uint8 the network gives its label (N,).

        Raises MalformedSnapshot for weights that are not of the architecture, or that are or give values
        which are not finite; ValueError if images and labels are not as described, or there are none.
        """
        if len(images) != len(labels) or not len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels: give as many of both, and some")
        predicted = self.predict(weights, images, batch_size)
        return Evaluation(correct=int((predicted == labels).sum()), total=len(labels))

    def predict(
        self,
        weights: Mapping[str, npt.NDArray[np.float32]],
        images: Images,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[np.int64]:
        """Return the label (N,) of each image, the lowest of equals; errors as `accuracy`."""
        best: npt.NDArray[np.int64] = self.logits(weights, images, batch_size).argmax(axis=1)
        return best

    def logits(
        self,
        weights: Mapping[str, npt.NDArray[np.float32]],
        images: Images,
        batch_size: int = BATCH_SIZE,
    ) -> npt.NDArray[np.float32]:
        """Return the network's output (N, classes); errors as `accuracy`."""
        if images.dtype != np.uint8 or images.shape[1:] != self._arch.input_shape:
            raise ValueError(f"images are {images.dtype} {images.shape[1:]}, expected uint8 {self._arch.input_shape}")
        check_weights(weights, self._arch)
        logits = np.empty((len(images), self._arch.classes), np.float32)
        # The runtime reads the arrays where they lie, so they must outlive the session.
        held = {name: np.ascontiguousarray(tensor) for name, tensor in weights.items()}
        session = self._session(held)
        for start in range(0, len(images), batch_size):
            batch = np.ascontiguousarray(images[start : start + batch_size])
            logits[start : start + batch_size] = session.run([OUTPUT], {INPUT: batch})[0]
        if not np.isfinite(logits).all():
            raise MalformedSnapshot(SnapshotFault.NOT_FINITE, "the weights give outputs that are not finite")
        return logits

    def _session(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        names = list(weights)
        options.add_external_initializers(names, [ort.OrtValue.ortvalue_from_numpy(weights[name]) for name in names])
        return ort.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
