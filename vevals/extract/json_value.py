"""``json``: the first JSON value of a reply, however hostile the rest is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from vevals.errors import BenchmarkError
from vevals.extract.base import extractor
from vevals.extract.reading import first_target, reply_of
from vevals.types import Response, Sample

_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n?(.*?)```", re.DOTALL)
_JSON_OPENING = re.compile(r"[{\[]")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_DEEPEST_JSON = 64
_LONGEST_JSON = 1_000_000  # characters
_MOST_JSON_BLOCKS = 100
_JSON_EFFORT = 100_000  # brackets and strings that are looked at before the search is given up
_JSON_ATTEMPT = 20  # what trying one opening bracket costs of that at least


def _json_ideal(sample: Sample, *, field: str | None) -> str:
    wanted = first_target(sample)
    if field is not None:
        return json.dumps({field: wanted}, ensure_ascii=False)
    if _canonical_json(wanted) is None:
        raise BenchmarkError(f"sample '{sample.id}': target '{wanted[:60]}' is not a JSON object or array")
    return wanted


@extractor("json", ideal=_json_ideal)
def json_text(sample: Sample, response: Response, *, field: str | None = None) -> str | None:  # noqa: ARG001
    """The first JSON object or array of the reply, one in a fenced block preferred, as canonical text.

    Canonical: keys sorted, no white space, non-ASCII as it is. ``field`` gives that key's value instead: a text as it
    is, anything else as canonical JSON, None for null or where the object has no such key. Nested deeper than 64 or not
    finite (NaN) is not JSON here.
    """
    text = reply_of(response)
    blocks = [match[1] for match in islice(_FENCE.finditer(text), _MOST_JSON_BLOCKS)]
    found = _first_json([*blocks, text])
    if found is None or field is None:
        return found
    value = json.loads(found)
    value = value.get(field) if isinstance(value, dict) else None
    return value if value is None or isinstance(value, str) else _dumps(value)


def _first_json(texts: Iterable[str]) -> str | None:
    """Canonical text of the first span of balanced brackets that is JSON.

    A bracket that never closes ends the search in its text: what is inside is part of something cut off.
    """
    effort = _JSON_EFFORT
    for text in texts:
        opening = _JSON_OPENING.search(text)
        while opening and effort > 0:
            end, valid, tokens = _closing_bracket(text, opening.start(), effort)
            effort -= max(tokens, _JSON_ATTEMPT)
            found = _canonical_json(text[opening.start() : end]) if valid else None
            if found is not None:
                return found
            opening = _JSON_OPENING.search(text, opening.end() if valid else end)
    return None


def _closing_bracket(text: str, start: int, effort: int) -> tuple[int, bool, int]:
    """(end, whether it could be JSON, tokens read) of the span that opens at ``start``.

    One that nests too deep could not be, and ends where that shows; one that never closes ends with the text.
    """
    depth = tokens = 0
    for match in islice(_JSON_TOKEN.finditer(text, start), effort):
        tokens += 1
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(match[0], 0)
        if depth == 0 or depth > _DEEPEST_JSON:
            return match.end(), depth == 0, tokens
    return len(text), False, tokens


def _canonical_json(text: str) -> str | None:
    """Canonical text of a JSON object or array, or None. ``text`` must not nest deeper than the parser can."""
    if len(text) > _LONGEST_JSON or not text.strip().startswith(("{", "[")):
        return None
    try:
        return _dumps(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
