"""``whole``: the reply as it is."""

from __future__ import annotations

from vevals.extract.base import extractor
from vevals.extract.reading import reply_of
from vevals.types import Response, Sample


@extractor("whole")
def whole(sample: Sample, response: Response, *, trim: bool = True) -> str | None:  # noqa: ARG001
    """The reply itself, without the white space around it (``trim: false`` keeps that); a blank one is no answer."""
    text = reply_of(response)
    if not text.strip():
        return None
    return text.strip() if trim else text
