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

VERSION = 2  # 1 was introduced to the drawn samples only
KINDS = {
    "majority": "the commonest right answer, to every question",
    "random": "an answer at random: of the choices, or that of another question",
    "oracle": "the right answer",
    "empty": "nothing at all",
    "flaky": "the right answer, but every third request fails",
    "noisy": "the right answer with probability 'accuracy' (0.8), drawn anew for each repeat; else a wrong one",
}
ACCURACY = 0.8


def load(name: str, settings: Mapping[str, str]) -> FakeModel:
    """``fake:majority`` and so on; settings: ``seconds`` (delay before each answer), ``seed`` (for random and noisy),
    ``accuracy`` (for noisy: probability of a right answer).
    """
    if name not in KINDS:
        raise ModelError(f"'fake:{name}': there is {', '.join(KINDS)}")
    known = ("accuracy", "seconds", "seed") if name == "noisy" else ("seconds", "seed")
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ModelError(f"'fake:{name}' has no setting '{unknown[0]}'; it has {', '.join(known)}")
    try:
        accuracy = float(settings.get("accuracy", ACCURACY)) if name == "noisy" else None
        model = FakeModel(name, float(settings.get("seconds", 0)), int(settings.get("seed", 0)), accuracy)
    except ValueError as error:
        raise ModelError(f"'fake:{name}': {' and '.join(known)} are numbers: {error}") from None
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ModelError(f"'fake:{name}': accuracy is {accuracy:g}; it is a probability, 0 to 1")
    return model


@dataclass(slots=True)
class FakeModel:
    """A model without weights. Answers out of order on purpose: nothing may depend on the order."""

    answers_by_id: ClassVar[bool] = True
    plain_prompts: ClassVar[bool] = True
    kind: str
    seconds: float = 0.0
    seed: int = 0
    accuracy: float | None = None
    _ideals: Sequence[str] = ()
    _place: Mapping[str, int] = field(default_factory=dict)
    _commonest: Sequence[tuple[str, int]] = ()
    _answers: Sequence[str] = ()

    @property
    def name(self) -> str:
        given = {"accuracy": self.accuracy, "seed": self.seed or None}
        shown = "&".join(f"{key}={value}" for key, value in given.items() if value is not None)
        return f"fake:{self.kind}?{shown}" if shown else f"fake:{self.kind}"

    @property
    def identity(self) -> Mapping[str, Any]:
        settings = {} if self.accuracy is None else {"accuracy": self.accuracy}
        return {"kind": "fake", "name": self.kind, "seed": self.seed, "version": VERSION, **settings}

    def introduce(self, samples: Sequence[Sample], ideals: Sequence[str]) -> None:
        self._ideals = ideals
        self._answers = sorted(set(ideals))
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
        if self.accuracy is not None:
            return self._noisy(request, self.accuracy)
        return "" if self.kind == "empty" else self._ideals[self._place[request.id]]

    def _majority(self, request: Request) -> str:
        """Where no answer occurs twice, that of another question: its own would be a gift."""
        (first, count), *rest = self._commonest
        own = self._ideals[self._place[request.id]]
        return rest[0][0] if count == 1 and first == own and rest else first

    def _random(self, request: Request) -> str:
        draw = self._draw(request)
        if len(set(request.choices)) > 1:  # the only choice is the right answer: that would be a gift
            return draw.choice(request.choices)
        own, others = self._place[request.id], len(self._ideals) - 1
        if not others:
            return ""
        place = draw.randrange(others)
        return self._ideals[place + (place >= own)]

    def _noisy(self, request: Request, accuracy: float) -> str:
        own = self._ideals[self._place[request.id]]
        draw = random.Random(f"{self.seed}/{request.id}/{request.seed}")
        wrong = [answer for answer in request.choices or self._answers if answer != own]
        return own if draw.random() < accuracy else draw.choice(wrong or [""])

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
