"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. A ``repair`` must be mended; a note is for the reader of the dataset card."""

    text: str
    repair: bool
