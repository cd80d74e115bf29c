"""Texts by their hash: each distinct text is stored once, compressed when that pays."""

from __future__ import annotations

import hashlib
import zlib
from enum import IntEnum
from typing import TypedDict

COMPRESS_FROM = 128


class Codec(IntEnum):
    """How ``blobs.bytes`` is packed."""

    raw = 0
    zlib = 1


class BlobRow(TypedDict):
    """A row of the table ``blobs``."""

    hash: bytes
    codec: int
    size: int
    bytes: bytes


def pack(text: str) -> BlobRow:
    """A row of ``blobs`` for ``text``; lone surrogates survive the round trip."""
    data = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(data).digest()
    small = zlib.compress(data, 6) if len(data) >= COMPRESS_FROM else data
    if len(small) < len(data):
        return {"hash": digest, "codec": Codec.zlib, "size": len(data), "bytes": small}
    return {"hash": digest, "codec": Codec.raw, "size": len(data), "bytes": data}


def unpack(codec: int, data: bytes) -> str:
    """The text of a row of ``blobs``."""
    return (zlib.decompress(data) if codec == Codec.zlib else data).decode("utf-8", "surrogatepass")
