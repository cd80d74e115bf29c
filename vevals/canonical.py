"""One text and one hash for equal content: canonical JSON and SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN; lone surrogates are escaped so that the text is always UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: float) -> float | None:
    """``value``, or None for NaN and infinity, which JSON and SQL do not have."""
    return value if math.isfinite(value) else None


def sha256(value: Any) -> bytes:
    """SHA-256 (32 bytes) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).digest()


def sha256_hex(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value`` as 64 hex digits."""
    return sha256(value).hex()
