"""What an extractor is, and how one is registered and found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vevals.catalogue import Catalogue, options_of
from vevals.errors import BenchmarkError
from vevals.extract.reading import target_itself
from vevals.types import Response, Sample

Answer = Callable[..., "str | None"]
Ideal = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Extractor:
    """A named way to find the answer, with all its options. ``version`` grows when its answers can change."""

    name: str
    options: Mapping[str, Any]
    version: int
    fn: Answer = field(repr=False)
    reverse: Ideal = field(repr=False)

    def answer(self, sample: Sample, response: Response) -> str | None:
        """The answer in ``response``, or None where there is none (always so for a request that failed)."""
        return None if response.error is not None else self.fn(sample, response, **self.options)

    def ideal(self, sample: Sample) -> str:
        """The reply to be read back as the sample's target; BenchmarkError where no reply could be.

        For ``most_likely`` it is the text of the right choice: there the answer is read from log-probabilities.
        """
        return self.reverse(sample, **self.options)


@dataclass(frozen=True, slots=True)
class _Entry:
    fn: Answer
    reverse: Ideal
    version: int


_CATALOGUE: Catalogue[_Entry] = Catalogue("extractor", "vevals.extractors", BenchmarkError)


def extractor(name: str, *, version: int = 1, ideal: Ideal | None = None) -> Callable[[Answer], Answer]:
    """Register a function as the extractor ``name``.

    ``ideal(sample, **options)`` gives the reply that it reads as the target; by default the target itself.
    """

    def register(fn: Answer) -> Answer:
        _CATALOGUE.add(name, _Entry(fn, ideal or target_itself, version))
        return fn

    return register


def get(name: str, options: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor ``name`` with ``options``; BenchmarkError for a name, option or value that it does not know."""
    entry = _CATALOGUE.find(name)
    resolved = options_of(entry.fn, options or {}, f"extractor '{name}'", BenchmarkError)
    return Extractor(name, resolved, entry.version, entry.fn, entry.reverse)


def names() -> list[str]:
    """Names of all extractors."""
    return _CATALOGUE.names()
