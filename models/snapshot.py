"""Weights as bytes: one canonical form per weights and codec, so that anyone can recompute a digest.

The form is a safetensors file whose header is a function of architecture and codec alone. A parser that
expects exactly that header needs to interpret nothing a peer wrote: what differs is malformed.

    8 bytes     header length, little endian
    header      compact JSON, metadata first, tensors by name, padded with spaces to 8 bytes
    tensors     little endian, C order, by name, without gaps

float32 and float16 hold each tensor as it is. int8 holds round(w / scale), one scale per tensor, and all
scales in one last tensor. A scale has 17 significant bits, so that every product of an int8 and its scale
is exact in float32 and encoding what was decoded gives the same bytes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import MalformedSnapshot, SnapshotFault
from models.options import Codec
from models.registry import Architecture, TensorSpec

Weights = dict[str, npt.NDArray[np.float32]]

FORMAT = "idml-snapshot-1"
SCALES = "~scales"  # sorts after every name that torch gives a tensor
MAX_HEADER_BYTES = 1 << 20
MAX_HEADER_BRACKETS = 4_000
MAX_MAGNITUDE = 127 * 512.0  # no codec rounds a value below it to one above; honest weights are far below
INT8_STEPS = 127
SMALLEST_INT8_SCALE_INPUT = 2.0**-60  # a tensor below this is all zeros in int8


_DTYPES: dict[Codec, np.dtype[Any]] = {
    Codec.FLOAT32: np.dtype("<f4"),
    Codec.FLOAT16: np.dtype("<f2"),
    Codec.INT8: np.dtype("i1"),
}
_SAFETENSORS_DTYPES = {
    Codec.FLOAT32: "F32",
    Codec.FLOAT16: "F16",
    Codec.INT8: "I8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Weights of one architecture in canonical bytes.

    `data` is uncompressed; `digest` is its SHA-256 and names the snapshot everywhere (iDML step 3).
    """

    architecture: str
    codec: Codec
    data: bytes = field(repr=False)
    digest: bytes


def encode(weights: Mapping[str, npt.NDArray[np.float32]], arch: Architecture, codec: Codec) -> Snapshot:
    """Return the one snapshot of `weights` under `codec`.

    Raises MalformedSnapshot if a tensor is missing, superfluous, of another shape or dtype than
    `arch` says, not finite, or beyond `MAX_MAGNITUDE`.
    """
    check_weights(weights, arch)
    tensors = [weights[spec.name] for spec in arch.tensors]
    parts = [header(arch, codec)]
    if codec is Codec.INT8:
        scales = np.array([_scale(tensor) for tensor in tensors], dtype="<f4")
        parts += [_quantised(tensor, scale) for tensor, scale in zip(tensors, scales, strict=True)]
        parts.append(scales.tobytes())
    else:
        parts += [tensor.astype(_DTYPES[codec]).tobytes() for tensor in tensors]
    return _snapshot(b"".join(parts), arch, codec)


def parse(data: bytes, arch: Architecture) -> Snapshot:
    """Return the snapshot that `data` is, every byte checked.

    Raises MalformedSnapshot, and nothing else, whatever `data` holds.
    """
    codec = _codec(data, arch)
    canonical = encode(_values(data, arch, codec), arch, codec)
    if canonical.data != data:
        raise MalformedSnapshot(SnapshotFault.NOT_CANONICAL, "these weights have another canonical form")
    return canonical


def decode(snapshot: Snapshot | bytes, arch: Architecture) -> Weights:
    """Return the float32 weights of a snapshot or of its `data`, in new arrays.

    Raises MalformedSnapshot as `parse` does.
    """
    data = snapshot.data if isinstance(snapshot, Snapshot) else snapshot
    parsed = parse(data, arch)
    return _values(data, arch, parsed.codec)


def check_weights(weights: Mapping[str, npt.NDArray[np.float32]], arch: Architecture) -> None:
    """Raise MalformedSnapshot unless `weights` are exactly the tensors of `arch`, finite and in range."""
    names = {spec.name for spec in arch.tensors}
    if missing := sorted(names - weights.keys()):
        raise MalformedSnapshot(SnapshotFault.MISSING_TENSOR, ", ".join(missing))
    if extra := sorted(weights.keys() - names):
        raise MalformedSnapshot(SnapshotFault.EXTRA_TENSOR, ", ".join(extra))
    for spec in arch.tensors:
        _check_tensor(weights[spec.name], spec)


def size_bytes(arch: Architecture, codec: Codec) -> int:
    """Return the length of every snapshot of `arch` under `codec`: the bound to give to `models.packing.unpack`."""
    scales = 4 * len(arch.tensors) if codec is Codec.INT8 else 0
    return len(header(arch, codec)) + arch.parameters * _DTYPES[codec].itemsize + scales


@lru_cache(maxsize=64)
def header(arch: Architecture, codec: Codec) -> bytes:
    """Return the first bytes, length included, of every snapshot of `arch` under `codec`."""
    entries: dict[str, object] = {"__metadata__": {"architecture": arch.name, "codec": codec.value, "format": FORMAT}}
    offset = 0
    layout = [(spec.name, _SAFETENSORS_DTYPES[codec], spec.shape, _DTYPES[codec].itemsize) for spec in arch.tensors]
    if codec is Codec.INT8:
        layout.append((SCALES, "F32", (len(arch.tensors),), 4))
    for name, dtype, shape, item_bytes in layout:
        end = offset + math.prod(shape) * item_bytes
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def claimed_architecture(data: bytes) -> str:
    """Return the architecture that `data` says it is of; nothing else about it is checked.

    Raises MalformedSnapshot if it does not say.
    """
    return _metadata(_header_fields(data)).get("architecture", "")


def _snapshot(data: bytes, arch: Architecture, codec: Codec) -> Snapshot:
    return Snapshot(architecture=arch.name, codec=codec, data=data, digest=hashlib.sha256(data).digest())


def _check_tensor(tensor: npt.NDArray[np.float32], spec: TensorSpec) -> None:
    if tensor.dtype != np.float32:
        raise MalformedSnapshot(SnapshotFault.WRONG_DTYPE, f"{spec.name} is {tensor.dtype}, expected float32")
    if tensor.shape != spec.shape:
        raise MalformedSnapshot(SnapshotFault.WRONG_SHAPE, f"{spec.name} is {tensor.shape}, expected {spec.shape}")
    if not np.isfinite(tensor).all():
        raise MalformedSnapshot(SnapshotFault.NOT_FINITE, spec.name)
    if tensor.size and float(np.abs(tensor).max()) > MAX_MAGNITUDE:
        raise MalformedSnapshot(SnapshotFault.OUT_OF_RANGE, f"{spec.name} exceeds {MAX_MAGNITUDE}")


def _scale(tensor: npt.NDArray[np.float32]) -> np.float32:
    largest = float(np.abs(tensor).max()) if tensor.size else 0.0
    if largest < SMALLEST_INT8_SCALE_INPUT:
        return np.float32(0.0)
    bits = np.float32(largest / INT8_STEPS).view(np.uint32)
    rounded_up = (int(bits) + 0x7F) & ~0x7F  # 17 significant bits
    return np.float32(np.uint32(rounded_up).view(np.float32))


def _quantised(tensor: npt.NDArray[np.float32], scale: np.float32) -> bytes:
    if not scale:
        return bytes(tensor.size)
    quantised: bytes = np.rint(tensor / scale).astype(np.int8).tobytes()
    return quantised


def _values(data: bytes, arch: Architecture, codec: Codec) -> Weights:
    offset = len(header(arch, codec))
    dtype = _DTYPES[codec]
    weights: Weights = {}
    for spec in arch.tensors:
        stored = np.frombuffer(data, dtype, count=spec.size, offset=offset).reshape(spec.shape)
        with np.errstate(invalid="ignore"):  # a signalling NaN is found by check_weights
            weights[spec.name] = stored.astype(np.float32)
        offset += spec.size * dtype.itemsize
    if codec is Codec.INT8:
        scales = np.frombuffer(data, "<f4", count=len(arch.tensors), offset=offset)
        if not np.isfinite(scales).all() or float(np.abs(scales).max()) > MAX_MAGNITUDE:
            raise MalformedSnapshot(SnapshotFault.NOT_FINITE, "a scale is not finite or out of range")
        for spec, scale in zip(arch.tensors, scales, strict=True):
            weights[spec.name] *= scale
    return weights


def _codec(data: bytes, arch: Architecture) -> Codec:
    for codec in Codec:
        expected = header(arch, codec)
        if data.startswith(expected):
            if len(data) != size_bytes(arch, codec):
                detail = f"{len(data)} bytes, expected {size_bytes(arch, codec)}"
                raise MalformedSnapshot(SnapshotFault.WRONG_LENGTH, detail)
            return codec
    raise _diagnosis(data, arch)


def _header_fields(data: bytes) -> dict[str, object]:
    if len(data) < 8:
        raise MalformedSnapshot(SnapshotFault.TOO_SHORT, f"{len(data)} bytes")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise MalformedSnapshot(SnapshotFault.BAD_HEADER, f"a header of {length} bytes")
    if len(data) < 8 + length:
        raise MalformedSnapshot(SnapshotFault.TOO_SHORT, "the header is cut off")
    text = data[8 : 8 + length]
    if text.count(b"{") + text.count(b"[") > MAX_HEADER_BRACKETS:
        # Python's reader recurses, and a host program may have raised the limit that keeps it from crashing.
        raise MalformedSnapshot(SnapshotFault.BAD_HEADER, "nested or divided beyond any network")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedSnapshot(SnapshotFault.BAD_HEADER, "not JSON") from error
    if not isinstance(fields, dict):
        raise MalformedSnapshot(SnapshotFault.BAD_HEADER, "not a JSON object")
    return fields


def _metadata(fields: dict[str, object]) -> dict[str, str]:
    metadata = fields.get("__metadata__")
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedSnapshot(SnapshotFault.BAD_HEADER, "no metadata")
    return metadata


def _diagnosis(data: bytes, arch: Architecture) -> MalformedSnapshot:
    """Say why `data` has none of the headers it could have."""
    fields = _header_fields(data)
    metadata = _metadata(fields)
    if metadata.get("format") != FORMAT:
        return MalformedSnapshot(SnapshotFault.WRONG_FORMAT, f"expected {FORMAT}")
    if metadata.get("architecture") != arch.name:
        return MalformedSnapshot(SnapshotFault.WRONG_ARCHITECTURE, f"expected {arch.name}")
    for codec in Codec:
        if metadata.get("codec") == codec:
            return _tensor_diagnosis(fields, json.loads(header(arch, codec)[8:]))
    return MalformedSnapshot(SnapshotFault.UNKNOWN_CODEC, f"expected one of {', '.join(Codec)}")


def _tensor_diagnosis(found: dict[str, Any], expected: dict[str, Any]) -> MalformedSnapshot:
    if missing := sorted(expected.keys() - found.keys()):
        return MalformedSnapshot(SnapshotFault.MISSING_TENSOR, ", ".join(missing))
    if extra := found.keys() - expected.keys():
        return MalformedSnapshot(SnapshotFault.EXTRA_TENSOR, f"{len(extra)} too many")
    for name, entry in expected.items():
        for key, fault in (("dtype", SnapshotFault.WRONG_DTYPE), ("shape", SnapshotFault.WRONG_SHAPE)):
            if not isinstance(found[name], dict) or found[name].get(key) != entry.get(key):
                return MalformedSnapshot(fault, f"{name}, expected {entry[key]}")
    return MalformedSnapshot(SnapshotFault.NOT_CANONICAL, "the header is not in its canonical form")
