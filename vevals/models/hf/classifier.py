"""Sequence classifiers (BERT-type, or a head for labels on any other body): their labels, and those that are asked for.

The forward passes are the engine's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from vevals.engine import files
from vevals.engine.classify import Coded, Heads, Verdict, verdicts
from vevals.errors import ModelError
from vevals.models.hf.local import LocalModel
from vevals.models.hf.responses import failed, no_memory, too_long
from vevals.types import ErrorKind, Request, Response

if TYPE_CHECKING:
    from vevals.engine.load import Loaded

BUDGET_TOKENS = {"cpu": 1024, "cuda": 32768}
SEVERAL = "multi_label_classification"


class ClassifierModel(LocalModel):
    """A model that names the label of a text, or of a text and its pair. See ``vevals.models.Classifier``.

    Log-probabilities are the model's own over all its labels: where a request leaves labels out, the others are not
    raised to make up for them.
    """

    kind: ClassVar[files.Kind] = "classifier"
    _heads: Heads | None = None
    _left_out: tuple[str, ...] | None = None

    @property
    def template(self) -> None:
        """No chat template: a classifier reads the text as it is."""
        _ = self._path

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of their ids: those of the setting ``labels``, else the config's.

        Raises:
            ModelError: the head has no labels, or not as many as were given.
        """
        config = files.read_json(self._path / files.CONFIG)
        own = _config_labels(config)
        if (len(own) < 2 and not self._several) or config.get("problem_type") == "regression":
            raise ModelError(f"'{self.name}' gives a number and no labels (a regression head); use a classifier")
        given = _given_labels(self.name, self._settings.labels)
        if given and len(given) != len(own):
            raise ModelError(f"'{self.name}': {len(given)} labels are given, but it has {len(own)}: {', '.join(own)}")
        return given or own

    @property
    def _several(self) -> bool:
        return files.read_json(self._path / files.CONFIG).get("problem_type") == SEVERAL

    @property
    def _identity_of_kind(self) -> Mapping[str, Any]:
        return {**super()._identity_of_kind, "labels": list(_given_labels(self.name, self._settings.labels)) or None}

    @property
    def conditions(self) -> Mapping[str, Any]:
        """As of any local model; ``left_out``: labels that the model has and nobody asked for."""
        asked = {} if self._left_out is None else {"left_out": list(self._left_out)}
        read = {} if self._heads is None or self._heads.reading is None else {"rows": self._heads.reading.value}
        return {**super().conditions, **read, **asked}

    def check_labels(self, labels: Sequence[str], several: bool) -> None:
        """Raise ModelError unless every one of ``labels`` is a label of the model; no weights are loaded for it.

        ``several``: whether a text may have any number of them, which only a multi-label head can say.
        """
        if several and not self._several:
            raise ModelError(
                f"'{self.name}' gives each text one label, and here a text may have several; "
                f"use a model with problem_type {SEVERAL}"
            )
        _ = self._places(tuple(labels))

    def generate(self, requests: Sequence[Request]) -> NoReturn:  # noqa: ARG002
        raise ModelError(f"'{self.name}' is a classifier and writes no text; ask it to classify, or use another model")

    def classify(self, requests: Sequence[Request]) -> Iterator[Response]:
        good = {request.choices for request in requests if _wrong(request) is None}
        places = {choices: self._places(choices) for choices in good}
        opened = self._open()
        heads = self._heads_of(opened)
        asked: list[tuple[Request, Coded]] = []
        for request, coded in self._coded(requests, opened):
            if isinstance(coded, Response):
                yield coded
            else:
                asked.append((request, coded))
        budget = int(self._settings.batch_tokens or BUDGET_TOKENS.get(opened.network.device.type, 1024))
        for index, verdict in verdicts(heads, [coded for _, coded in asked], budget):
            request, coded = asked[index]
            yield _answered(request, coded, verdict, places[request.choices])

    def close(self) -> None:
        self._heads = None
        super().close()

    def _heads_of(self, opened: Loaded) -> Heads:
        if self._heads is None:
            config, own = opened.network.model.config, opened.tokenizer.pad_token_id
            fill = config.pad_token_id if config.pad_token_id is not None else own
            self._heads = Heads(opened.network, fill or 0, self._several)
        return self._heads

    def _places(self, choices: tuple[str, ...]) -> tuple[int, ...]:
        """The id of each choice's label."""
        found = matched(choices, self.labels)
        if found is None:
            raise ModelError(
                f"'{self.name}' has the labels {', '.join(self.labels)}, which are not {', '.join(choices)}; "
                f"say what each of its {len(self.labels)} ids means, in their order, as in labels={_example(choices)}"
            )
        self._left_out = tuple(label for place, label in enumerate(self.labels) if place not in found)
        return found

    def _coded(self, requests: Sequence[Request], opened: Loaded) -> Iterator[tuple[Request, Coded | Response]]:
        limit = _limit(opened, int(self._settings.max_length or 0) or None)
        reader = _Reader(opened, self._settings.truncate == "right", limit)
        for size in (1, 2):
            some = [request for request in requests if len(request.prompts) == size and _wrong(request) is None]
            if some:
                yield from zip(some, reader.read(some), strict=True)
        for request in requests:
            if (wrong := _wrong(request)) is not None:
                yield request, failed(request, ErrorKind.bad_request, wrong)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Texts -> tokens, as the model was trained on them. ``cuts``: whether what is beyond ``limit`` may be dropped."""

    opened: Loaded
    cuts: bool
    limit: int | None

    def read(self, requests: Sequence[Request]) -> list[Coded | Response]:
        """The tokens of each request's text, or text and pair; all requests have the same number of texts."""
        limit = self.limit
        found: list[Coded | Response] = []
        for request, coded in zip(requests, self._encoded([request.prompts for request in requests]), strict=True):
            if not coded.tokens:
                found.append(failed(request, ErrorKind.bad_request, "the text is empty; give one"))
            elif limit is None or len(coded.tokens) <= limit:
                found.append(coded)
            elif self.cuts:
                found.append(self._encoded([request.prompts], limit)[0])
            else:
                found.append(too_long(request, f"{len(coded.tokens)} tokens", limit, "right"))
        return found

    def _encoded(self, prompts: Sequence[tuple[str, ...]], limit: int | None = None) -> list[Coded]:
        tokenizer, columns = self.opened.tokenizer, [list(column) for column in zip(*prompts, strict=True)]
        shape: dict[str, Any] = {"return_attention_mask": False, "return_token_type_ids": None, "verbose": False}
        if limit is not None:
            tokenizer.truncation_side = "right"
            shape |= {"truncation": "longest_first", "max_length": limit}
        found = tokenizer(*columns, **shape)
        types = found.get("token_type_ids") if _reads_types(self.opened) else None
        kinds = types or [()] * len(prompts)
        return [Coded(tuple(ids), tuple(of)) for ids, of in zip(found["input_ids"], kinds, strict=True)]


def _reads_types(opened: Loaded) -> bool:
    """Whether the model has an embedding for which of two texts a token is from (and not for anything else)."""
    config = opened.network.model.config
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1 or config.model_type == "xlnet"


def _limit(opened: Loaded, given: int | None) -> int | None:
    """Most tokens of an input, special ones included: what is ``given``, else what config and tokenizer say.

    A table of positions bounds it in any case. RoBERTa and its kin count positions from behind the pad token's id:
    their table is longer than what can be read. None where nothing bounds it.
    """
    network, own = opened.network, int(getattr(opened.tokenizer, "model_max_length", 0) or 0)
    bounds = [given] if given else [network.max_length, own if own < 10**9 else 0]
    for name, module in network.model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "num_embeddings", None):
            padding = module.padding_idx
            bounds.append(module.num_embeddings if padding is None else module.num_embeddings - padding - 1)
    return min((bound for bound in bounds if bound > 0), default=None)


def _wrong(request: Request) -> str | None:
    """Why a request cannot be asked."""
    if not request.choices or len(set(request.choices)) < len(request.choices):
        return "the request has no labels to choose from, or one of them twice"
    if len(request.prompts) not in (1, 2):
        return f"the request has {len(request.prompts)} texts; give one, or a text and its pair"
    try:
        "".join(request.prompts).encode()
    except UnicodeEncodeError as error:
        return f"the text cannot be written: {files.one_line(error)}"
    return None


def _answered(request: Request, coded: Coded, verdict: Verdict | None, places: Sequence[int]) -> Response:
    if verdict is None:
        return no_memory(request)
    logprobs = tuple(verdict.logprobs[place] for place in places)
    best = request.choices[logprobs.index(max(logprobs))]
    size = len(coded.tokens)
    return Response(request.id, text=best, logprobs=logprobs, input_tokens=size, seconds=verdict.seconds)


# --- labels ---------------------------------------------------------------------------------------------------------


def _config_labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a config in the order of their ids; transformers' own names where it has none."""
    named = config.get("id2label")
    if isinstance(named, Mapping) and named:
        return tuple(str(named[key]) for key in sorted(named, key=int))
    return tuple(f"LABEL_{number}" for number in range(int(config.get("num_labels") or 2)))


def _given_labels(name: str, text: str) -> tuple[str, ...]:
    """The setting ``labels``: names with commas between them, or a JSON list where a name has a comma itself."""
    if not text:
        return ()
    try:
        found = json.loads(text) if text.startswith("[") else text.split(",")
        given = tuple(label.strip() for label in found)
    except (ValueError, AttributeError):
        raise ModelError(
            f"'{name}': labels is '{text}'; write names with commas between them, or a JSON list"
        ) from None
    if not all(given) or len(set(given)) < len(given):
        raise ModelError(f"'{name}': labels is '{text}', where one is empty or given twice; name each id once")
    return given


def matched(wanted: Sequence[str], own: Sequence[str]) -> tuple[int, ...] | None:
    """Where each of ``wanted`` stands among ``own``, which may have more; None unless every one has a place of its own.

    Tried in this order, for all labels at once: the same text; the same without case, ``_``, ``-`` and spaces; the
    same letters and digits. Never by position: in which order a benchmark has its choices says nothing of the model.
    """
    foldings: tuple[Callable[[str], str], ...] = (str, _folded, _characters)
    for folded in foldings:
        names, labels = [folded(label) for label in wanted], [folded(label) for label in own]
        if all(name and labels.count(name) == 1 and names.count(name) == 1 for name in names):
            return tuple(labels.index(name) for name in names)
    return None


def _folded(label: str) -> str:
    return "".join(label.casefold().replace("_", " ").replace("-", " ").split())


def _characters(label: str) -> str:
    return "".join(filter(str.isalnum, label.casefold()))


def _example(choices: Sequence[str]) -> str:
    return json.dumps(list(choices), ensure_ascii=False) if any("," in one for one in choices) else ",".join(choices)
