"""A writer of bgzip data, from the specification."""

import struct
import zlib
from collections.abc import Callable

import pytest


def _member(block: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflate.compress(block) + deflate.flush()
    header = bytes.fromhex("1f8b08040000000000ff") + struct.pack("<H2sHH", 6, b"BC", 2, len(packed) + 25)
    return header + packed + struct.pack("<II", zlib.crc32(block), len(block))


@pytest.fixture(scope="session")
def bgzip() -> Callable[..., list[bytes]]:
    """bgzip(data, block=65280): the blocks of a bgzip file, the empty one at the end included."""

    def blocks(data: bytes, block: int = 65280) -> list[bytes]:
        return [_member(data[start : start + block]) for start in range(0, len(data), block)] + [_member(b"")]

    return blocks
