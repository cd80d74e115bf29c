"""Reference rows for a leaderboard, and models that misbehave on purpose for tests.

``majority`` and ``random`` are told the right answers of the set (see ``Informed``): majority gives the commonest one
to every question, random gives each question the answer of another, drawn at random. They show what a score is worth.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vevals.errors import ModelError
from vevals.types import ErrorKind, FinishReason, Request, Response, Sample

VERSION = 1
KINDS = {
    "majority": "the commonest right answer, to every question",
    "random": "an answer at random: of the choices, or that of another question",
    "oracle": "the right answer",
    "empty": "nothing at all",
    "flaky": "the right answer, but every third request fails",
}


def load(name: str, settings: Mapping[str, str]) -> FakeModel:
    """``fake:majority`` and so on; settings: ``seconds`` (delay before each answer), ``seed`` (for random)."""
    if name not in KINDS:
        raise ModelError(f"'fake:{name}': there is {', '.join(KINDS)}")
    unknown = sorted(set(settings) - {"seconds", "seed"})
    if unknown:
        raise ModelError(f"'fake:{name}' has no setting '{unknown[0]}'; it has seconds and seed")
    try:
        return FakeModel(name, float(settings.get("seconds", 0)), int(settings.get("seed", 0)))
    except ValueError as error:
        raise ModelError(f"'fake:{name}': seconds and seed are numbers: {error}") from None


@dataclass(slots=True)
class FakeModel:
    """A model without weights. Answers out of order on purpose: nothing may depend on the order."""

    answers_by_id: ClassVar[bool] = True
    kind: str
    seconds: float = 0.0
    seed: int = 0
    _ideals: Sequence[str] = ()
    _place: Mapping[str, int] = field(default_factory=dict)
    _commonest: Sequence[tuple[str, int]] = ()

    @property
    def name(self) -> str:
        return f"fake:{self.kind}"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "fake", "name": self.kind, "seed": self.seed, "version": VERSION}

    def introduce(self, samples: Sequence[Sample], ideals: Sequence[str]) -> None:
        self._ideals = ideals
        self._place = {sample.id: place for place, sample in enumerate(samples)}
        self._commonest = sorted(Counter(ideals).items(), key=lambda item: (-item[1], item[0]))[:2]

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in self._shuffled(requests):
            yield self._answer(request, lambda request: _text(request, self._reply(request)))

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in self._shuffled(requests):
            yield self._answer(request, lambda request: _logprobs(request, self._reply(request)))

    def close(self) -> None:
        """Nothing to free."""

    def _shuffled(self, requests: Sequence[Request]) -> list[Request]:
        return sorted(requests, key=lambda request: hashlib.sha256(request.id.encode()).digest())

    def _answer(self, request: Request, answer: Callable[[Request], Response]) -> Response:
        if self.seconds:
            time.sleep(self.seconds)
        if self.kind == "flaky" and self._draw(request).randrange(3) == 0:
            reason = FinishReason.error
            return Response(request.id, error="fake failure", error_kind=ErrorKind.internal, finish_reason=reason)
        return answer(request)

    def _reply(self, request: Request) -> str:
        if self.kind == "majority":
            return self._majority(request)
        if self.kind == "random":
            return self._random(request)
        return "" if self.kind == "empty" else self._ideals[self._place[request.id]]

    def _majority(self, request: Request) -> str:
        """Where no answer occurs twice, that of another question: its own would be a gift."""
        (first, count), *rest = self._commonest
        own = self._ideals[self._place[request.id]]
        return rest[0][0] if count == 1 and first == own and rest else first

    def _random(self, request: Request) -> str:
        draw = self._draw(request)
        if request.choices:
            return draw.choice(request.choices)
        own, others = self._place[request.id], len(self._ideals) - 1
        if not others:
            return ""
        place = draw.randrange(others)
        return self._ideals[place + (place >= own)]

    def _draw(self, request: Request) -> random.Random:
        return random.Random(f"{self.seed}/{request.id}")


def _text(request: Request, reply: str) -> Response:
    return Response(request.id, text=reply, input_tokens=_words(request), output_tokens=len(reply.split()))


def _logprobs(request: Request, reply: str) -> Response:
    logprobs = tuple(-1.0 if choice == reply else -5.0 for choice in request.choices)
    counts = tuple(max(1, len(choice.split())) for choice in request.choices)
    greedy = tuple(choice == reply for choice in request.choices)
    return Response(request.id, logprobs=logprobs, choice_tokens=counts, greedy=greedy, input_tokens=_words(request))


def _words(request: Request) -> int:
    return sum(len(message.content.split()) for message in request.messages)
