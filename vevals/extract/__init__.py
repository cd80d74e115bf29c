"""From the text of a reply to the answer in it: the one place that knows how models phrase what they mean.

An extractor is one function ``(sample, response, *, option=default) -> str | None`` that a benchmark names in its YAML;
None means that the reply holds no answer. Answers of choice benchmarks are always the text of the choice. What a
reasoning model writes before ``</think>`` is no part of its reply, and a thought that was never closed has no reply.

Everything here is pure, needs the standard library only, and takes time linear in the length of the reply, however
hostile it is. Packages add extractors by the entry-point group ``vevals.extractors``.
"""

from __future__ import annotations

from vevals.extract import date, json_value, label, letter, likelihood, number, refusal, whole
from vevals.extract.base import Extractor, extractor, get, names
from vevals.extract.likelihood import most_likely_index
from vevals.extract.number import numbers
from vevals.extract.reading import find_phrase, puts_spaces

__all__ = ["Extractor", "extractor", "find_phrase", "get", "most_likely_index", "names", "numbers", "puts_spaces"]

_OURS = (date, json_value, label, letter, likelihood, number, refusal, whole)  # importing them registers them
