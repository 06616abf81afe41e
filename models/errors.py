"""Every error this package raises on purpose.

    ModelsError
    ├── UnknownArchitecture     no graph is shipped or exported under that name
    ├── UnknownDataset          no source of data is known under that name
    ├── ArchitectureDamaged     a graph and its description disagree
    ├── ExportFailed            a network cannot be turned into a weight-less graph
    ├── MalformedSnapshot       bytes or weights that are not a snapshot of the architecture (`.reason`)
    ├── WeightsDiffer           two sets of weights that cannot be merged
    ├── PartitionImpossible     the data cannot be shared out as asked
    ├── DatasetMissing          the data is not on this machine
    ├── DatasetCorrupt          the data is here, and is not what it should be
    └── BadInput                what the operator gave on the command line does not fit

Each message says what the operator can do about it.
"""

from enum import StrEnum


class ModelsError(Exception):
    """Any expected failure of this package; its text is one line for the operator."""


class UnknownArchitecture(ModelsError):
    """No graph is known under this name."""


class UnknownDataset(ModelsError):
    """No data source is known under this name."""


class ArchitectureDamaged(ModelsError):
    """A graph file and the description beside it disagree."""


class ExportFailed(ModelsError):
    """The exported graph does not hold exactly the tensors of the network."""


class SnapshotFault(StrEnum):
    """Why bytes or weights are no snapshot of an architecture."""

    TOO_SHORT = "too short"
    TOO_LARGE = "too large"
    BAD_COMPRESSION = "bad compression"
    BAD_HEADER = "bad header"
    WRONG_FORMAT = "wrong format version"
    WRONG_ARCHITECTURE = "wrong architecture"
    UNKNOWN_CODEC = "unknown codec"
    MISSING_TENSOR = "missing tensor"
    EXTRA_TENSOR = "extra tensor"
    WRONG_SHAPE = "wrong shape"
    WRONG_DTYPE = "wrong dtype"
    WRONG_LENGTH = "wrong length"
    NOT_CANONICAL = "not canonical"
    NOT_FINITE = "not finite"
    OUT_OF_RANGE = "out of range"


class MalformedSnapshot(ModelsError):
    """Bytes or weights that are not a snapshot of the architecture at hand.

    A peer that sends one is at fault: drop the snapshot, never repair it.
    """

    def __init__(self, reason: SnapshotFault, detail: str) -> None:
        super().__init__(f"malformed snapshot ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


class WeightsDiffer(ModelsError):
    """Two sets of weights whose names or shapes differ."""


class PartitionImpossible(ModelsError):
    """There is not enough data to share it out as asked."""


class DatasetMissing(ModelsError):
    """The data is not on this machine and could not be fetched."""


class DatasetCorrupt(ModelsError):
    """A file of a dataset is not what it should be."""


class BadInput(ModelsError):
    """Something given on the command line cannot be read, or does not fit the rest."""
