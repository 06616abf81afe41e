"""Snapshots on the wire: zstd frames, unpacked within bounds whatever they say."""

import zstandard

from models.errors import MalformedSnapshot, SnapshotFault

ZSTD_LEVEL = 3


def pack(data: bytes) -> bytes:
    """Return `data` compressed for the wire: one zstd frame that states its content size."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)


def unpack(wire: bytes | bytearray, max_bytes: int) -> bytes:
    """Return what `pack` was given, if that is at most `max_bytes` long.

    Memory use is bounded by `max_bytes` before anything is decompressed. Raises MalformedSnapshot.
    """
    try:
        stated_bytes = zstandard.frame_content_size(wire)
        if stated_bytes < 0:
            raise MalformedSnapshot(SnapshotFault.BAD_COMPRESSION, "the frame does not state its size")
        if stated_bytes > max_bytes:
            raise MalformedSnapshot(
                SnapshotFault.TOO_LARGE, f"{stated_bytes} bytes unpacked, at most {max_bytes} expected"
            )
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(wire, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedSnapshot(SnapshotFault.BAD_COMPRESSION, str(error)) from error
    return unpacked
