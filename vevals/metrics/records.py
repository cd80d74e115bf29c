"""Metrics of JSON answers: which fields of an object are as they should be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vevals.metrics.base import metric
from vevals.metrics.text import normalised
from vevals.types import Response, Sample, Score


@metric(binary=True)
def field_match(sample: Sample, response: Response, *, fields: Sequence[str] = ()) -> Score:
    """Whether all ``fields`` of the answer equal the target's; all fields of the target by default.

    Answer and target are JSON objects (``answer: json``). Texts are compared without width, case and outer white
    space, and a number equals its text: 3 is "3". Fields that the target does not have are not looked at.
    """
    wrong, _ = _compared(sample, response, fields)
    return Score(float(not wrong), f"wrong: {', '.join(wrong)}" if wrong else "")


@metric()
def field_share(sample: Sample, response: Response, *, fields: Sequence[str] = ()) -> Score:
    """Share of ``fields`` in which the answer equals the target, compared as by ``field_match``."""
    wrong, count = _compared(sample, response, fields)
    return Score(1 - len(wrong) / count, f"wrong: {', '.join(wrong)}" if wrong else "")


def _compared(sample: Sample, response: Response, fields: Sequence[str]) -> tuple[list[str], int]:
    """The names of the fields that differ, and how many were compared."""
    wanted = _object(sample.target[0], "target")
    names = tuple(fields) or tuple(sorted(wanted))
    absent = [name for name in names if name not in wanted]
    if absent or not names:
        raise ValueError(f"the target has no field '{absent[0]}'" if absent else "the target has no fields")
    given = _object(response.answer or "", "answer", strict=False)
    return [name for name in names if name not in given or _plain(given[name]) != _plain(wanted[name])], len(names)


def _object(text: str, what: str, strict: bool = True) -> Mapping[str, Any]:
    """The JSON object in ``text``; an answer of another kind has no fields, a target of another kind is an error."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    if strict:
        raise ValueError(f"the {what} is not a JSON object")
    return {}


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return normalised(text, ("width", "case", "whitespace"))
