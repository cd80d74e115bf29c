"""Named functions whose keyword-only parameters are their options: how extractors and metrics are registered."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vevals.errors import VevalsError

T = TypeVar("T")


@dataclass(slots=True)
class Catalogue(Generic[T]):
    """Named things of one kind (``noun``), ours and those of installed packages (entry-point ``group``).

    Loading an entry point must register the name that it stands for. Faults are raised as ``error``.
    """

    noun: str
    group: str
    error: type[VevalsError]
    entries: dict[str, T] = field(default_factory=dict)

    def add(self, name: str, entry: T) -> None:
        """Register ``entry``; a name that is taken is refused."""
        if name in self.entries:
            raise self.error(f"{self.noun} '{name}' is registered twice; rename one of the two")
        self.entries[name] = entry

    def find(self, name: str) -> T:
        """The entry called ``name``; raises ``error`` with the known names."""
        if name not in self.entries:
            for point in entry_points(group=self.group, name=name):
                point.load()
        if name not in self.entries:
            raise self.error(f"unknown {self.noun} '{name}'; {suggestion(name, self.names())}")
        return self.entries[name]

    def names(self) -> list[str]:
        """All names, sorted; those of other packages are listed without being loaded."""
        return sorted({*self.entries, *(point.name for point in entry_points(group=self.group))})


def suggestion(name: str, known: Sequence[str]) -> str:
    """The end of an error sentence: the nearest known name, if one is near, and all of them."""
    near = get_close_matches(name, known, n=1)
    listed = ", ".join(known) if known else "there are none"
    return f"did you mean '{near[0]}'? Known: {listed}" if near else f"known: {listed}"


@dataclass(frozen=True, slots=True)
class Least:
    """``Annotated[float, Least(0)]``: an option that must not be smaller."""

    value: float


def options_of(
    fn: Callable[..., Any], given: Mapping[str, Any], owner: str, error: type[VevalsError]
) -> dict[str, Any]:
    """All options of ``fn`` (its keyword-only parameters): those given, checked against its type hints, and defaults.

    ``owner`` names the function in the error, as in ``extractor 'letter'``.
    """
    parameters = [p for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY]
    defaults = {p.name: p.default for p in parameters}
    for name in given:
        if name not in defaults:
            raise error(f"{owner} has no option '{name}'; {suggestion(name, sorted(defaults))}")
    missing = [name for name, default in defaults.items() if default is inspect.Parameter.empty and name not in given]
    if missing:
        raise error(f"{owner} needs the option '{missing[0]}'")
    hints = get_type_hints(fn, include_extras=True)
    for name, value in given.items():
        wanted = _misfit(value, hints.get(name, Any))
        if wanted:
            raise error(f"option '{name}' of {owner} is {value!r}; use {wanted}")
    return {**defaults, **given}


def _misfit(value: Any, hint: Any) -> str:
    """What ``hint`` asks for, in words, or "" where ``value`` fits it (or the hint is of a kind not checked here)."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
        return "" if fits else " or ".join(repr(choice) for choice in inner)
    if origin in (Union, UnionType):
        wanted = [_misfit(value, part) for part in inner]
        return "" if "" in wanted else " or ".join(wanted)
    if hasattr(hint, "__metadata__"):
        return _misfit_least(value, hint.__origin__, hint.__metadata__)
    if origin in (list, tuple, Sequence):
        items = "" if isinstance(value, list | tuple) else "a list"
        return items or next((f"a list, each {wrong}" for item in value if (wrong := _misfit(item, inner[0]))), "")
    return _misfit_plain(value, hint)


def _misfit_least(value: Any, hint: Any, extras: Sequence[Any]) -> str:
    low = next((extra.value for extra in extras if isinstance(extra, Least)), None)
    wanted = _misfit(value, hint)
    if low is None or (not wanted and value >= low):
        return wanted
    return f"a number, {low:g} or more"


def _misfit_plain(value: Any, hint: Any) -> str:
    """``bool`` is no number here: ``tolerance: true`` is a slip."""
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return "" if fits else "a number"
    if hint is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    words = {str: "a text", bool: "true or false", NoneType: "nothing"}
    if hint not in words or isinstance(value, hint):
        return ""
    return words[hint]
