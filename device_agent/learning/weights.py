"""Arithmetic on weights in this process, with numpy: what the validation process does, and a simulation itself."""

from __future__ import annotations

from device_agent.learning import Model
from models.merge import merge
from models.options import Codec, Merge
from models.registry import Architecture
from models.snapshot import decode, encode, parse


def merged(previous: Model, own: Model, kind: Merge, codec: Codec, arch: Architecture) -> Model:
    """Return the merge of two models. Raises `MalformedSnapshot`."""
    weights = merge(kind, decode(previous.data, arch), previous.age, decode(own.data, arch), own.age)
    snapshot = encode(weights, arch, codec)
    return Model(data=snapshot.data, digest=snapshot.digest, age=max(previous.age, own.age))


class SnapshotsHere:
    """Takes no virtual time; see `device_agent.learning.Snapshots`."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    async def check(self, snapshot: bytes) -> None:
        """See `device_agent.learning.Snapshots`."""
        parse(snapshot, self._architecture)

    async def merge(self, previous: Model, own: Model, kind: Merge, codec: Codec) -> Model:
        """See `device_agent.learning.Snapshots`."""
        return merged(previous, own, kind, codec, self._architecture)
