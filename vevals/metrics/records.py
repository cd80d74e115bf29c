"""Metrics of JSON answers: which fields of an object are as they should be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from vevals.metrics.base import metric
from vevals.metrics.text import normalised
from vevals.types import Response, Sample, Score


@metric(binary=True)
def field_match(sample: Sample, response: Response, *, fields: Sequence[str] = ()) -> Score:
    """Whether all ``fields`` of the answer equal the target's; all fields of the target by default.

    Answer and target are JSON objects (``answer: json``); of several targets the nearest counts. Texts are compared
    without width, case and outer white space, numbers by value, and a number equals its text: 3, 3.0 and "3" are the
    same. Fields that the target does not have are not looked at.
    """
    wrong, _ = _compared(sample, response, fields)
    return Score(float(not wrong), f"wrong: {', '.join(wrong)}" if wrong else "")


@metric()
def field_share(sample: Sample, response: Response, *, fields: Sequence[str] = ()) -> Score:
    """Share of ``fields`` in which the answer equals the target, compared as by ``field_match``."""
    wrong, count = _compared(sample, response, fields)
    return Score(1 - len(wrong) / count, f"wrong: {', '.join(wrong)}" if wrong else "")


def _compared(sample: Sample, response: Response, fields: Sequence[str]) -> tuple[list[str], int]:
    """The names of the fields that differ from the nearest target, and how many were compared."""
    if not sample.target:
        raise ValueError("the sample has no target")
    given = _object(response.answer or "")
    return min((_differing(given or {}, target, fields) for target in sample.target), key=lambda found: len(found[0]))


def _differing(given: Mapping[str, Any], target: str, fields: Sequence[str]) -> tuple[list[str], int]:
    wanted = _object(target)
    if wanted is None:
        raise ValueError("the target is not a JSON object")
    names = tuple(fields) or tuple(sorted(wanted))
    absent = [name for name in names if name not in wanted]
    if absent or not names:
        raise ValueError(f"the target has no field '{absent[0]}'" if absent else "the target has no fields")
    return [name for name in names if name not in given or not _same(given[name], wanted[name])], len(names)


def _object(text: str) -> Mapping[str, Any] | None:
    """The JSON object in ``text``, None where it is something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(given, dict) and isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(_same(given[key], wanted[key]) for key in wanted)
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(_same, given, wanted))
    if isinstance(given, dict | list) or isinstance(wanted, dict | list) or (given is None) != (wanted is None):
        return False
    numbers = _number(given), _number(wanted)
    return numbers[0] == numbers[1] if None not in numbers else _text(given) == _text(wanted)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool):
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _text(value: Any) -> str:
    return normalised(value if isinstance(value, str) else json.dumps(value), ("width", "case", "whitespace"))
