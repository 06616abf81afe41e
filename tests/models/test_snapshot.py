import hashlib
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import MalformedSnapshot, SnapshotFault
from models.options import Codec
from models.packing import pack, unpack
from models.registry import Architecture, architecture
from models.snapshot import (
    MAX_MAGNITUDE,
    SCALES,
    Weights,
    claimed_architecture,
    decode,
    encode,
    header,
    parse,
    size_bytes,
)

fixture_ok = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
values = st.floats(-MAX_MAGNITUDE, MAX_MAGNITUDE, width=32)


@st.composite
def tiny_weights(draw: st.DrawFn) -> Weights:
    return {
        "a.bias": draw(hnp.arrays(np.float32, (3,), elements=values)),
        "a.weight": draw(hnp.arrays(np.float32, (2, 3), elements=values)),
        "scalar": draw(hnp.arrays(np.float32, (), elements=values)),
    }


@fixture_ok
@given(weights=tiny_weights(), codec=st.sampled_from(Codec))
def test_encoding_what_was_decoded_gives_the_same_bytes(tiny: Architecture, weights: Weights, codec: Codec) -> None:
    first = encode(weights, tiny, codec)
    again = encode(decode(first, tiny), tiny, codec)
    assert again == first
    assert parse(first.data, tiny) == first
    assert first.digest == hashlib.sha256(first.data).digest()
    assert len(first.data) == size_bytes(tiny, codec)


@fixture_ok
@given(weights=tiny_weights())
def test_decoding_loses_no_more_than_the_codec_says(tiny: Architecture, weights: Weights) -> None:
    exact = decode(encode(weights, tiny, Codec.FLOAT32), tiny)
    half = decode(encode(weights, tiny, Codec.FLOAT16), tiny)
    coarse = decode(encode(weights, tiny, Codec.INT8), tiny)
    for name, tensor in weights.items():
        largest = float(np.abs(tensor).max())
        assert exact[name].tobytes() == tensor.tobytes()
        assert np.abs(half[name] - tensor).max() <= largest * 2**-11 + 2**-25
        assert np.abs(coarse[name] - tensor).max() <= largest / 127 / 2 * 1.001 + 2**-59
        assert coarse[name].shape == tensor.shape


def test_order_and_layout_of_the_weights_do_not_change_the_bytes(
    random_weights: Callable[..., Weights], tiny: Architecture
) -> None:
    weights = random_weights(tiny)
    turned = {name: weights[name].copy(order="F") for name in reversed(weights)}
    assert encode(turned, tiny, Codec.INT8) == encode(weights, tiny, Codec.INT8)


@pytest.mark.parametrize("codec", Codec)
def test_a_snapshot_is_a_safetensors_file(
    random_weights: Callable[..., Weights], cnn6: Architecture, codec: Codec
) -> None:
    weights = random_weights(cnn6)
    stored = safetensors.numpy.load(encode(weights, cnn6, codec).data)
    scales = stored.pop(SCALES, np.ones(len(cnn6.tensors), np.float32))
    decoded = decode(encode(weights, cnn6, codec), cnn6)
    assert sorted(stored) == [spec.name for spec in cnn6.tensors]
    for spec, scale in zip(cnn6.tensors, scales, strict=True):
        np.testing.assert_array_equal(stored[spec.name].astype(np.float32) * scale, decoded[spec.name])


def test_the_bytes_of_a_snapshot_never_change(tiny: Architecture) -> None:
    """Digests are compared between devices of different age: a change here needs a new format version."""
    weights = {
        "a.bias": np.array([0.0, -1.0, 0.5], np.float32),
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 8,
        "scalar": np.float32(0.1).reshape(()),
    }
    found = {codec.value: encode(weights, tiny, codec).digest.hex()[:16] for codec in Codec}
    assert found == {"float32": "500314750b3eceac", "float16": "d3d9e7cc02de22ba", "int8": "ba8c5b1eebbb2ae5"}


def altered_header(data: bytes, **changes: object) -> bytes:
    length = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8 : 8 + length])
    for name, change in changes.items():
        if change is None:
            del fields[name]
        elif isinstance(change, dict) and name in fields:
            fields[name] |= change
        else:
            fields[name] = change
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("scalar", None, SnapshotFault.MISSING_TENSOR),
        ("more", {"dtype": "F32", "shape": [0], "data_offsets": [40, 40]}, SnapshotFault.EXTRA_TENSOR),
        ("a.bias", {"shape": [1, 3]}, SnapshotFault.WRONG_SHAPE),
        ("a.bias", {"dtype": "F64"}, SnapshotFault.WRONG_DTYPE),
        ("a.bias", 7, SnapshotFault.EXTRA_TENSOR),
        ("a.bias", {"data_offsets": [4, 16]}, SnapshotFault.NOT_CANONICAL),
        ("__metadata__", None, SnapshotFault.BAD_HEADER),
        ("__metadata__", {"format": "idml-snapshot-0"}, SnapshotFault.WRONG_FORMAT),
        ("__metadata__", {"architecture": "huge"}, SnapshotFault.WRONG_ARCHITECTURE),
        ("__metadata__", {"codec": "int4"}, SnapshotFault.UNKNOWN_CODEC),
        ("__metadata__", {"codec": 3}, SnapshotFault.BAD_HEADER),
        ("__metadata__", {"more": "text"}, SnapshotFault.NOT_CANONICAL),
    ],
)
def test_each_way_to_be_malformed_has_its_reason(
    random_weights: Callable[..., Weights],
    tiny: Architecture,
    name: str,
    change: object,
    reason: SnapshotFault,
) -> None:
    data = encode(random_weights(tiny), tiny, Codec.FLOAT32).data
    if change == 7:
        reason = SnapshotFault.WRONG_DTYPE
    with pytest.raises(MalformedSnapshot) as caught:
        parse(altered_header(data, **{name: change}), tiny)
    assert caught.value.reason is reason


def test_length_must_be_exact(random_weights: Callable[..., Weights], tiny: Architecture) -> None:
    data = encode(random_weights(tiny), tiny, Codec.FLOAT32).data
    for wrong in (data[:-1], data + b"\0", data[: len(header(tiny, Codec.FLOAT32))]):
        with pytest.raises(MalformedSnapshot) as caught:
            parse(wrong, tiny)
        assert caught.value.reason is SnapshotFault.WRONG_LENGTH


@pytest.mark.parametrize(
    ("codec", "tail", "reason"),
    [
        (Codec.FLOAT32, b"\0\0\xc0\x7f", SnapshotFault.NOT_FINITE),
        (Codec.FLOAT32, b"\0\0\x80\xff", SnapshotFault.NOT_FINITE),
        (Codec.FLOAT32, b"\x01\0\x80\x7f", SnapshotFault.NOT_FINITE),  # a signalling NaN
        (Codec.FLOAT16, b"\x01\x7c", SnapshotFault.NOT_FINITE),
        (Codec.FLOAT16, b"\0\x7c", SnapshotFault.NOT_FINITE),
        (Codec.FLOAT32, b"\xff\xff\x7f\x7f", SnapshotFault.OUT_OF_RANGE),
        (Codec.INT8, b"\0\0\xc0\x7f", SnapshotFault.NOT_FINITE),
        (Codec.INT8, b"\x01\0\x80\x3f", SnapshotFault.NOT_CANONICAL),  # a scale of too many bits
        (Codec.INT8, b"\0\0\0\0", SnapshotFault.NOT_CANONICAL),  # zero for a tensor that is not
        (Codec.INT8, b"\0\0\x80\xbf", SnapshotFault.NOT_CANONICAL),  # negative
        (Codec.INT8, b"\xff\xff\x7f\x7f", SnapshotFault.NOT_FINITE),
    ],
)
def test_no_value_is_let_in_that_an_honest_device_cannot_write(
    random_weights: Callable[..., Weights],
    tiny: Architecture,
    codec: Codec,
    tail: bytes,
    reason: SnapshotFault,
) -> None:
    data = encode(random_weights(tiny), tiny, codec).data
    with pytest.raises(MalformedSnapshot) as caught:
        decode(data[: -len(tail)] + tail, tiny)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scalar": np.array(np.nan, np.float32)}, SnapshotFault.NOT_FINITE),
        ({"scalar": np.array(-np.inf, np.float32)}, SnapshotFault.NOT_FINITE),
        ({"scalar": np.array(65025.0, np.float32)}, SnapshotFault.OUT_OF_RANGE),
        ({"scalar": np.zeros(1, np.float32)}, SnapshotFault.WRONG_SHAPE),
        ({"scalar": np.array(0.0)}, SnapshotFault.WRONG_DTYPE),
        ({"more": np.zeros(1, np.float32)}, SnapshotFault.EXTRA_TENSOR),
    ],
)
def test_weights_are_checked_before_they_are_encoded(
    random_weights: Callable[..., Weights], tiny: Architecture, change: Weights, reason: SnapshotFault
) -> None:
    with pytest.raises(MalformedSnapshot) as caught:
        encode(random_weights(tiny) | change, tiny, Codec.FLOAT16)
    assert caught.value.reason is reason
    with pytest.raises(MalformedSnapshot, match=r"a\.bias"):
        encode({}, tiny, Codec.INT8)


@fixture_ok
@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_are_malformed_and_nothing_worse(tiny: Architecture, data: bytes) -> None:
    for hostile in (data, len(data).to_bytes(8, "little") + data, header(tiny, Codec.INT8)[:200] + data):
        with pytest.raises(MalformedSnapshot):
            decode(hostile, tiny)
        with pytest.raises(MalformedSnapshot):
            unpack(hostile, 1000)


@fixture_ok
@given(codec=st.sampled_from(Codec), where=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_changed_byte_is_malformed_or_another_canonical_snapshot(
    random_weights: Callable[..., Weights], tiny: Architecture, codec: Codec, where: int, value: int
) -> None:
    data = bytearray(encode(random_weights(tiny), tiny, codec).data)
    data[where % len(data)] = value
    try:
        weights = decode(bytes(data), tiny)
    except MalformedSnapshot:
        return
    assert encode(weights, tiny, codec).data == bytes(data)


def test_deep_nesting_cannot_crash_a_program_that_recurses_deeply() -> None:
    """Some libraries raise Python's recursion limit, beyond what the JSON reader's stack can hold."""
    program = """
import sys
from models.errors import MalformedSnapshot
from models.snapshot import claimed_architecture
sys.setrecursionlimit(1_000_000)
text = b'[' * 1_000_000
try:
    claimed_architecture(len(text).to_bytes(8, "little") + text)
except MalformedSnapshot:
    sys.exit(0)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"[]", b"{}", b"\xff\xfe", b'{"__metadata__":[]}'],
)
def test_hostile_headers_are_malformed(tiny: Architecture, text: bytes) -> None:
    data = len(text).to_bytes(8, "little") + text
    for read in (lambda: decode(data, tiny), lambda: claimed_architecture(data)):
        with pytest.raises(MalformedSnapshot) as caught:
            read()
        assert caught.value.reason is SnapshotFault.BAD_HEADER


def test_a_header_that_claims_much_is_not_believed(tiny: Architecture) -> None:
    with pytest.raises(MalformedSnapshot) as caught:
        parse((1 << 62).to_bytes(8, "little") + b"{}", tiny)
    assert caught.value.reason is SnapshotFault.BAD_HEADER


def test_a_snapshot_says_its_architecture(random_weights: Callable[..., Weights], cnn6: Architecture) -> None:
    assert claimed_architecture(encode(random_weights(cnn6), cnn6, Codec.INT8).data) == "cnn6-28x28x1"


@given(data=st.binary(max_size=2000))
def test_packing_is_undone_by_unpacking(data: bytes) -> None:
    assert unpack(pack(data), len(data)) == data
    if data:
        with pytest.raises(MalformedSnapshot) as caught:
            unpack(pack(data), len(data) - 1)
        assert caught.value.reason is SnapshotFault.TOO_LARGE


def test_a_decompression_bomb_takes_no_memory() -> None:
    bomb = pack(bytes(1 << 28))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        for wire in (bomb, unsized):
            with pytest.raises(MalformedSnapshot):
                unpack(wire, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_damaged_or_continued_frames_are_refused() -> None:
    wire = pack(b"weights" * 100)
    for damaged in (
        wire[:-1],
        wire + b"x",
        wire + wire,
        b"",
        wire[:4],
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + wire,
    ):
        with pytest.raises(MalformedSnapshot) as caught:
            unpack(damaged, 10_000)
        assert caught.value.reason in (SnapshotFault.BAD_COMPRESSION, SnapshotFault.WRONG_LENGTH)


def test_int8_is_four_times_smaller_on_the_wire(
    random_weights: Callable[..., Weights],
) -> None:
    arch = architecture("cnn10", (1, 28, 28))
    weights = random_weights(arch)
    packed = {codec: len(pack(encode(weights, arch, codec).data)) for codec in Codec}
    assert packed[Codec.INT8] * 4 < packed[Codec.FLOAT32]
