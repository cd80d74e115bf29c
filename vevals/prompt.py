"""Sample -> messages. Sandboxed Jinja in which an undefined name is an error; pure.

A template sees every column of the row by its name, plus ``input``, ``choices`` and ``id``. Printed as a whole,
``{{ choices }}`` is the lettered list (``A. ...``); it can also be looped over or indexed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vevals.errors import BenchmarkError
from vevals.types import Message, Sample

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


class Choices(tuple[str, ...]):
    """The choices of a sample as a template sees them: a tuple that prints as a lettered list."""

    def __str__(self) -> str:
        return "\n".join(f"{letter_of(i)}. {choice}" for i, choice in enumerate(self))


def letter_of(index: int) -> str:
    """0 -> A ... 25 -> Z; from 26 on the 1-based number, because there is no 27th letter."""
    return LETTERS[index] if index < len(LETTERS) else str(index + 1)


def names_in(template: str) -> set[str]:
    """The names that ``template`` uses; empty for one that is not valid (see ``check_template``)."""
    try:
        return set(meta.find_undeclared_variables(_environment.parse(template)))
    except TemplateSyntaxError:
        return set()


def check_template(template: str, names: Sequence[str]) -> str | None:
    """Return what is wrong with ``template`` when only ``names`` are defined, or None."""
    try:
        used = meta.find_undeclared_variables(_environment.parse(template))
    except TemplateSyntaxError as error:
        return f"the prompt is not a valid template (its line {error.lineno}): {error.message}"
    unknown = sorted(used - set(names))
    if not unknown:
        return None
    close = difflib.get_close_matches(unknown[0], names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; columns are {', '.join(sorted(names))}"
    return f"the prompt uses '{unknown[0]}', which no column has{hint}"


def render(template: str, sample: Sample) -> str:
    """Fill in ``template`` with the sample's columns; white space at both ends is removed.

    Raises:
        BenchmarkError: the template fails on this sample.
    """
    try:
        return _compiled(template).render(**template_values(sample)).strip()
    except TemplateError as error:
        raise BenchmarkError(f"sample {sample.id}: the prompt cannot be rendered: {error}") from error


def template_values(sample: Sample) -> Mapping[str, Any]:
    """The names that a template sees for this sample. The target is not among them unless it is a column's name."""
    own = {"id": sample.id, "input": sample.input, "choices": Choices(sample.choices)}
    return {**sample.fields, **own}


def conversation(
    template: str, sample: Sample, system: str | None = None, shots: Sequence[tuple[Sample, str]] = ()
) -> tuple[Message, ...]:
    """The messages for one sample: system text, few-shot turns (sample, ideal reply), then the question."""
    messages = [Message("system", system)] if system else []
    for shot, reply in shots:
        messages += [Message("user", render(template, shot)), Message("assistant", reply)]
    return (*messages, Message("user", render(template, sample)))


@lru_cache(maxsize=512)
def _compiled(template: str) -> Template:
    return _environment.from_string(template)
