"""Causal language models on this machine: a hub id, a folder, or a GGUF file (``hf:NAME?setting=value``).

This module alone knows what becomes of a request's messages and choices before they are tokens, and of tokens when
they are an answer. The forward passes are the engine's. Nothing heavy is loaded before the first question.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from vevals.engine import files
from vevals.engine.decode import Answer, Prompt, answers
from vevals.engine.gguf import CONVERTER, converted
from vevals.engine.load import Loaded, Order, loaded, on_gpu
from vevals.engine.plan import Tokens
from vevals.engine.score import Likelihood, Pair, Part, Question, encoded, likelihoods
from vevals.errors import MissingExtra, ModelError
from vevals.types import ErrorKind, FinishReason, Request, Response

DTYPES = ("auto", "float32", "bfloat16", "float16")
VALUES: Mapping[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "chat": ("auto", "yes", "no"),
    "trust_remote_code": ("false", "true"),
    "truncate": ("none", "left"),
}
IN_NAME = ("dtype", "chat", "revision", "truncate")
BUDGET_TOKENS = {"cpu": 4096, "cuda": 16384}
SLAB = 256
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\u3000-\u303f]")


@dataclass(frozen=True, slots=True)
class Settings:
    """What may stand after ``?``. ``device`` and ``batch_tokens`` change the speed only, the others can change scores.

    ``truncate=left`` drops the start of an input that is too long, which is an error otherwise.
    """

    dtype: str = "auto"
    device: str = "auto"
    chat: str = "auto"
    revision: str = ""
    trust_remote_code: str = "false"
    batch_tokens: str = ""
    truncate: str = "none"

    @property
    def shown(self) -> str:
        """What of them can change a score and was set: part of the model's name."""
        given = {key: getattr(self, key) for key in IN_NAME if getattr(self, key) != getattr(Settings(), key)}
        return f"?{urlencode(given)}" if given else ""

    @classmethod
    def parse(cls, name: str, given: Mapping[str, str]) -> Settings:
        """Check names and values; ModelError says what is known."""
        known = [field.name for field in fields(cls)]
        for key, value in given.items():
            if key not in known:
                raise ModelError(f"'hf:{name}' has no setting '{key}'; it has {', '.join(known)}")
            if key in VALUES and value not in VALUES[key]:
                raise ModelError(f"'hf:{name}': {key} is '{value}'; use {', '.join(VALUES[key])}")
        if (budget := given.get("batch_tokens")) is not None and not (budget.isdecimal() and int(budget) > 0):
            raise ModelError(f"'hf:{name}': batch_tokens is '{budget}'; use a whole number above 0")
        return cls(**given)


def load(name: str, settings: Mapping[str, str]) -> HfModel:
    """The model called ``name``: a folder, a ``.gguf`` file, or a hub id. Only looks whether it is there.

    Raises:
        ModelError: unknown setting, or a path at which no causal language model lies.
        MissingExtra: torch or transformers is not installed.
    """
    parsed = Settings.parse(name, settings)
    path = Path(name).expanduser()
    local = path.exists()
    if not local and (path.suffix == ".gguf" or not _HUB_ID.fullmatch(name)):
        raise ModelError(f"'hf:{name}': there is no such folder or file; give a model folder, a .gguf file or a hub id")
    if local and parsed.revision:
        raise ModelError(f"'hf:{name}' is on this machine, where 'revision' means nothing; leave the setting out")
    if any(find_spec(module) is None for module in ("torch", "transformers")):
        raise MissingExtra("hf: models", "hf")
    model = HfModel(path.name or path.resolve().name if local else name, path if local else None, parsed)
    if local:
        _ = model.template  # reads the files' names and headers, so that a wrong path is an error now
    return model


class HfModel:
    """A causal language model. See ``vevals.models.Model`` and ``Scorer`` for what the methods promise.

    Sampling defaults of a model's generation config are not used: ``Options`` says everything, and greedy is greedy.
    """

    def __init__(self, source: str, path: Path | None, settings: Settings) -> None:
        self.name = f"hf:{source}{settings.shown}"
        self._source, self._local, self._settings = source, path, settings
        self._opened: Loaded | None = None

    @cached_property
    def _path(self) -> Path:
        """The folder or GGUF file; downloads what a hub id names."""
        path = self._local if self._local is not None else files.snapshot(self._source, self._settings.revision)
        if path.is_dir():
            files.check_folder(path)
        elif path.suffix == ".gguf":
            files.check_gguf(path)
        else:
            raise ModelError(f"'{self.name}' is a file, but no .gguf; give a model folder, a .gguf file or a hub id")
        return path

    @cached_property
    def _own_template(self) -> str | None:
        """The model's chat template, whether or not it is used."""
        return files.template(self._path)

    @property
    def template(self) -> str | None:
        """The chat template in use; None when messages are joined to plain text."""
        found = self._own_template
        if self._settings.chat == "yes" and found is None:
            raise ModelError(f"'{self.name}': a model without chat template asked for chat; use chat=no")
        return None if self._settings.chat == "no" else found

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What can change an answer, found without loading the model. JSON-able, the same on every machine."""
        version_of = version("transformers").split(".")
        found = {
            "kind": "hf",
            "source": self._source,
            "revision": None if self._local is not None else self._path.name,
            **files.parts(self._path),
            "chat_template": None if self._own_template is None else files.text_digest(self._own_template),
            "chat": "no" if self.template is None else "yes",
            "dtype": self._dtype,
            "truncate": self._settings.truncate,
            "backend": "transformers " + ".".join(version_of[:2]),
        }
        return {**found, "converter": CONVERTER} if self._path.is_file() else found

    @cached_property
    def _dtype(self) -> str:
        """The dtype asked for; ``auto`` is float32 on a CPU and what the config says on a GPU."""
        if self._settings.dtype != "auto":
            return self._settings.dtype
        if self._path.is_file() or not on_gpu(self._settings.device):
            return "float32"
        config = files.read_json(self._path / "config.json")
        config = {**config, **(config.get("text_config") or {})}
        return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        prompts: list[tuple[Request, Prompt]] = []
        for request, prompt in self._prompts(requests, opened):
            if isinstance(prompt, Response):
                yield prompt
            else:
                prompts.append((request, prompt))
        budget = self._budget(opened)
        for index, answer in answers(opened.network, [prompt for _, prompt in prompts], opened.text, budget):
            yield _answered(*prompts[index], answer)

    def loglikelihood(self, requests: Sequence[Request]) -> Iterator[Response]:
        opened = self._open()
        open_ones: list[_Asked] = []
        for asked in self._asked(requests, opened):
            if isinstance(asked, Response):
                yield asked
            else:
                open_ones.append(asked)
        owners = [(asked, place) for asked in open_ones for place in range(len(asked.pairs))]
        pairs = [asked.pairs[place] for asked, place in owners]
        for index, found in likelihoods(opened.network, pairs, self._budget(opened)):
            asked, place = owners[index]
            asked.found[place] = found
            if len(asked.found) == len(asked.pairs):
                yield asked.response()

    def close(self) -> None:
        """Free the memory. A later question loads the model again."""
        if self._opened is None:
            return
        self._opened = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _open(self) -> Loaded:
        if self._opened is None:
            folder = converted(self._path) if self._path.is_file() else self._path
            settings = self._settings
            trusted = settings.trust_remote_code == "true"
            order = Order(self.name, folder, self.template, self._dtype, settings.device, trusted)
            self._opened = loaded(order, self._own_template)
        return self._opened

    def _budget(self, opened: Loaded) -> int:
        return int(self._settings.batch_tokens or BUDGET_TOKENS.get(opened.network.device.type, 4096))

    def _context(self, request: Request, opened: Loaded) -> tuple[str, bool] | Response:
        """The text before the answer, and whether the tokenizer adds its special tokens to it."""
        try:
            text = opened.rendered(request.messages)
            "".join((text, *request.choices)).encode()
        except Exception as error:  # a template may raise anything about the messages it is given
            return _failed(request, ErrorKind.bad_request, f"the prompt cannot be written: {files.one_line(error)}")
        bos = opened.tokenizer.bos_token
        return text, opened.template is None and not (bos and text.startswith(bos))

    def _prompts(self, requests: Sequence[Request], opened: Loaded) -> Iterator[tuple[Request, Prompt | Response]]:
        texts: list[tuple[Request, str, bool]] = []
        for request in requests:
            context = _wrong_options(request) or self._context(request, opened)
            if isinstance(context, Response):
                yield request, context
            else:
                texts.append((request, *context))
        for special in (True, False):
            chosen = [(request, text) for request, text, wanted in texts if wanted is special]
            ids = opened.encode([text for _, text in chosen], special) if chosen else []
            for (request, _), tokens in zip(chosen, ids, strict=True):
                yield request, self._prompt(request, tuple(tokens), opened)

    def _prompt(self, request: Request, tokens: Tokens, opened: Loaded) -> Prompt | Response:
        if not tokens and opened.prefix is not None:
            tokens = (opened.prefix,)
        if not tokens:
            return _failed(request, ErrorKind.bad_request, "the prompt is empty; write one")
        room = opened.network.max_length - request.options.max_tokens
        if len(tokens) > room and (self._settings.truncate == "none" or room < 1):
            wanted = f"{len(tokens)} prompt tokens and {request.options.max_tokens} new ones"
            return _too_long(request, wanted, opened.network.max_length)
        ends = opened.ends | {opened.specials[stop] for stop in request.options.stop if stop in opened.specials}
        return Prompt(tokens[-room:], request.options, ends, f"{request.seed}/{request.id}")

    def _asked(self, requests: Sequence[Request], opened: Loaded) -> Iterator[_Asked | Response]:
        for start in range(0, len(requests), SLAB):
            slab: list[tuple[Request, Question]] = []
            for request in requests[start : start + SLAB]:
                question = self._question(request, opened)
                if isinstance(question, Response):
                    yield question
                else:
                    slab.append((request, question))
            found = encoded([question for _, question in slab], opened.encode, opened.prefix)
            for (request, _), parts in zip(slab, found, strict=True):
                yield self._fitted(request, parts, opened.network.max_length)

    def _question(self, request: Request, opened: Loaded) -> Question | Response:
        if not request.choices or not all(request.choices):
            what = "an empty choice" if request.choices else "no choices"
            return _failed(request, ErrorKind.bad_request, f"the request has {what}; nothing can be scored")
        context = self._context(request, opened)
        if isinstance(context, Response):
            return context
        text, special = context
        chat = opened.template is not None
        continuations = [choice if chat else _delimiter(text, choice) + choice for choice in request.choices]
        return Question(text, tuple(continuations), special)

    def _fitted(self, request: Request, parts: Sequence[Part], limit: int) -> _Asked | Response:
        """Pairs that the model can read, cut on the left if that is asked for. As in lm-eval, each pair by itself."""
        fitted: list[Pair] = []
        for (context, ending, spaces), choice in zip(parts, request.choices, strict=True):
            if not context or len(ending) <= spaces:
                return _failed(request, ErrorKind.bad_request, f"the choice {choice!r} has no tokens after the prompt")
            kept = limit + 1 - len(ending)
            if kept < len(context) and (self._settings.truncate == "none" or kept < 1):
                return _too_long(request, f"{len(context)} prompt tokens and {len(ending)} of a choice", limit)
            fitted.append((context[-kept:], ending))
        return _Asked(request, fitted, [spaces for _, _, spaces in parts], {})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request being scored: its pairs, and what is known of them by place.

    ``spaces`` are tokens of the prompt that are scored with the choice, for the pair rule's sake; they count as input.
    """

    request: Request
    pairs: Sequence[Pair]
    spaces: Sequence[int]
    found: dict[int, Likelihood | None]

    def response(self) -> Response:
        known = [one for place in range(len(self.pairs)) if (one := self.found[place]) is not None]
        if len(known) < len(self.pairs):
            return _no_memory(self.request)
        sized = list(zip(self.pairs, self.spaces, strict=True))
        return Response(
            self.request.id,
            logprobs=tuple(one.logprob for one in known),
            choice_tokens=tuple(len(ending) - spaces for (_, ending), spaces in sized),
            greedy=tuple(one.greedy for one in known),
            input_tokens=max(len(context) + spaces for (context, _), spaces in sized),
            seconds=sum(one.seconds for one in known),
        )


def _delimiter(context: str, choice: str) -> str:
    """A space between plain text and a choice, where the language and the text call for one."""
    return "" if not context or context[-1].isspace() or _CJK.match(choice) else " "


def _wrong_options(request: Request) -> Response | None:
    options = request.options
    checks: Mapping[str, bool] = {
        f"max_tokens is {options.max_tokens}; use 1 or more": options.max_tokens < 1,
        f"temperature is {options.temperature}; use 0 or more": not options.temperature >= 0,
        f"top_p is {options.top_p}; use more than 0, up to 1": not 0 < options.top_p <= 1,
        "a stop string is empty; leave it out": "" in options.stop,
    }
    wrong = next((message for message, found in checks.items() if found), None)
    return None if wrong is None else _failed(request, ErrorKind.bad_request, wrong)


def _answered(request: Request, prompt: Prompt, answer: Answer | None) -> Response:
    if answer is None:
        return _no_memory(request)
    return Response(
        request.id,
        text=answer.text,
        input_tokens=len(prompt.tokens),
        output_tokens=answer.tokens,
        seconds=answer.seconds,
        finish_reason=answer.finish,
    )


def _failed(request: Request, kind: ErrorKind, message: str) -> Response:
    return Response(request.id, error=message, error_kind=kind, finish_reason=FinishReason.error)


def _too_long(request: Request, wanted: str, limit: int) -> Response:
    message = f"{wanted} are more than the model's {limit}; shorten the prompt or set truncate=left"
    return _failed(request, ErrorKind.too_long, message)


def _no_memory(request: Request) -> Response:
    message = "not enough memory for this request even by itself; use a smaller model, dtype or prompt"
    return _failed(request, ErrorKind.out_of_memory, message)
