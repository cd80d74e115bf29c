"""The nouns that every layer shares: frozen values, standard library only.

They are replaced, never changed in place (``dataclasses.replace``). Texts are ``str``, times are seconds,
log-probabilities are natural logarithms (nats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

RequestKind = Literal["generate", "loglikelihood", "rolling", "classify"]


class Outcome(IntEnum):
    """How one (sample, metric) ended. What the model did counts as wrong; what we did lowers coverage."""

    scored = 0
    refused = 1
    failed = 2
    empty = 3
    truncated = 4
    unparsed = 5
    unjudgeable = 6

    @property
    def has_value(self) -> bool:
        """Whether a row with this outcome enters the mean."""
        return self not in (Outcome.failed, Outcome.unjudgeable)


class FinishReason(IntEnum):
    """Why a generation ended: end of turn or stop string, token limit, or an error."""

    stop = 0
    length = 1
    error = 2


class ErrorKind(IntEnum):
    """What kept a request from being answered."""

    none = 0
    too_long = 1
    out_of_memory = 2
    timeout = 3
    connection = 4
    refused = 5
    bad_request = 6
    missing = 7
    internal = 8
    extractor = 9

    @property
    def final(self) -> bool:
        """Whether asking again cannot help: such rows are not repeated when a run is resumed."""
        return self in (ErrorKind.too_long, ErrorKind.refused)


class RunStatus(IntEnum):
    """Where a run stands."""

    unfinished = 0
    finished = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. ``role`` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """How text is generated. Part of a run's identity: a change here can change a score."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One question as the expert wrote it.

    ``target`` holds the acceptable answers (any one of them is right), or for a multi-label benchmark the whole set.
    Targets of choice benchmarks are texts of ``choices``. ``fields`` are all columns of the row, by name.
    """

    id: str
    input: str
    target: tuple[str, ...]
    choices: tuple[str, ...] = ()
    cluster: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a model. ``id`` is unique within a call.

    ``generate`` continues the conversation; ``loglikelihood`` scores ``choices`` as its continuations; ``rolling``
    scores a text as a whole; ``classify`` asks which of the labels in ``choices`` a text has.

    ``prompts`` are plain texts in place of ``messages``: no chat template is applied, and nothing is put between a
    prompt and a choice. One text; for ``loglikelihood`` also one for each choice; for ``classify`` one or a pair.
    """

    id: str
    kind: RequestKind
    messages: tuple[Message, ...]
    options: Options = Options()
    choices: tuple[str, ...] = ()
    seed: int = 0
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What came back for the request of the same ``id``, or why nothing did (``error``).

    ``logprobs``, ``choice_tokens`` and ``greedy`` have one entry a choice: summed log-probability (nats), number of
    tokens, and whether greedy decoding would have produced the choice. A rolling request has one entry, for its text;
    a classify request only ``logprobs``, one a label. ``answer`` is filled in by the extractor.
    """

    id: str
    text: str = ""
    logprobs: tuple[float, ...] = ()
    choice_tokens: tuple[int, ...] = ()
    greedy: tuple[bool, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    finish_reason: FinishReason = FinishReason.stop
    error: str | None = None
    error_kind: ErrorKind = ErrorKind.none
    cached: bool = False
    answer: str | None = None

    @property
    def failed(self) -> bool:
        """Whether no usable reply came back, whatever the backend says of the reason."""
        kind, reason = self.error_kind, self.finish_reason
        return self.error is not None or kind is not ErrorKind.none or reason is FinishReason.error


@dataclass(frozen=True, slots=True)
class Score:
    """One verdict on one response. ``value`` is None when no verdict could be reached; ``note`` says why."""

    value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample, its response, and how one metric judged it. ``value`` is None for failed and unjudgeable rows."""

    sample: Sample
    response: Response
    outcome: Outcome
    value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with what it rests on: a 95% interval, the rows that carry a value, and all rows.

    ``low`` and ``high`` are NaN where no interval can be given; ``method`` then says why.
    """

    value: float
    low: float
    high: float
    scored: int
    total: int
    method: str

    @property
    def coverage(self) -> float:
        """Share of rows that carry a value, 0 to 1."""
        return self.scored / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What makes two runs the same run, and what is known of this one's surroundings (``provenance``).

    ``total``: rows to be answered, samples x ``repeats``. ``selection`` is the hash of the ids of the samples that are
    asked. ``attempt`` j asks the repeats K(j-1) to Kj-1. ``parent``: digest (hex) of the run that this one began with.
    """

    benchmark: str
    fingerprint: str
    model: str
    model_identity: Mapping[str, Any]
    options: Options
    total: int
    parts: Mapping[str, str] = field(default_factory=dict)
    selection: str = ""
    limit: int | None = None
    draw: int | None = None
    seed: int = 0
    label: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    attempt: int = 1
    parent: str = ""
