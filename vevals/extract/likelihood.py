"""``most_likely``: the choice with the highest log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from vevals.extract.base import extractor
from vevals.extract.label import label_ideal
from vevals.types import Response, Sample


@extractor("most_likely", ideal=label_ideal)
def most_likely(
    sample: Sample,
    response: Response,
    *,
    normalise: Literal["none", "bytes", "characters", "tokens"] = "none",
) -> str | None:
    """The choice with the highest log-probability, the first of equals.

    ``normalise`` divides each by the UTF-8 bytes, characters or tokens of its choice, so that long choices are not at a
    disadvantage. A wrong number of log-probabilities, NaN, or a choice without length is no answer.
    """
    best = most_likely_index(sample.choices, response, normalise)
    return None if best is None else sample.choices[best]


def most_likely_index(choices: Sequence[str], response: Response, normalise: str) -> int | None:
    """Index of the most likely choice; see ``most_likely``."""
    by_unit: dict[str, Sequence[float]] = {
        "none": [1.0] * len(choices),
        "bytes": [len(choice.encode()) for choice in choices],
        "characters": [len(choice) for choice in choices],
        "tokens": response.choice_tokens,
    }
    lengths = by_unit[normalise]
    logprobs = response.logprobs
    if not choices or len(logprobs) != len(choices) or len(lengths) != len(choices) or min(lengths) <= 0:
        return None
    if any(math.isnan(value) for value in logprobs) or max(logprobs) == -math.inf:
        return None
    rates = [value / length for value, length in zip(logprobs, lengths, strict=True)]
    return rates.index(max(rates))
