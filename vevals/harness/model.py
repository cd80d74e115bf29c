"""A vevals model inside lm-eval: ``lm_eval --model vevals --model_args pretrained=NAME --tasks TASK``.

Importing this module registers the name ``vevals`` with lm-eval. Its command line knows the name by the entry point
``lm_eval.models`` from the version after 0.4.13; for those up to it, ``python -m vevals.harness`` is that command line.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import lm_eval.models  # noqa: F401  # before registering: lm-eval loads its own models only into an empty registry
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from vevals import __version__
from vevals.engine.files import one_line, text_digest
from vevals.errors import ModelError
from vevals.harness import arguments
from vevals.models import Described, Informed, Model, Roller, Scorer, load_model
from vevals.models.hf.local import LocalModel
from vevals.types import Message, Request, RequestKind, Response

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

log = logging.getLogger(__name__)
Ask = Callable[[Sequence[Request]], Iterator[Response]]
Turn = Mapping[str, str]


@runtime_checkable
class Writer(Protocol):
    """A model that writes answers; one that only classifies has no ``generate``."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]: ...


class Conversation(str):
    """Turns for a model that renders them itself, as JSON: lm-eval hands a prompt around as one text."""

    __slots__ = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(self))


@register_model("vevals")
class VevalsLM(LM):  # type: ignore[misc]
    """Any vevals model as an lm-eval model: all requests of one kind go to the engine in one call.

    ``pretrained`` is a folder, a hub id, a vevals name such as ``smollm2``, or a loaded Model; ``arguments.SETTINGS``
    are the other arguments. ``batch_size`` means nothing here (``batch_tokens`` sets how much runs at once).
    A request that fails stops the run: lm-eval would take any value for a score. What was answered until then is in
    lm-eval's cache (``--use_cache``).

    Raises:
        ModelError: an argument that is not known, a model that is not there or only knows its answers by heart, or a
            start in several processes.
    """

    def __init__(
        self,
        pretrained: str | Model,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ModelError("--model vevals runs in one process; start lm-eval without accelerate launch or torchrun")
        self.model = _loaded(pretrained, settings)
        self._seed = seed
        if batch_size is not None or max_batch_size is not None:
            log.info("batch_size means nothing to --model vevals: it fills batches by tokens (batch_tokens=N)")

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> VevalsLM:
        given = arguments.merged(arg_dict, additional_config)
        if "pretrained" not in given:
            raise ModelError("model_args: --model vevals needs pretrained=FOLDER, a hub id or a vevals name")
        return cls(**given)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> VevalsLM:
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether it is greedy) of each (context, continuation)."""
        scorer = self._able(Scorer, "score answers")
        groups: dict[str, dict[str, list[int]]] = {}
        for place, (context, continuation) in enumerate(instance.args for instance in requests):
            groups.setdefault(context, {}).setdefault(continuation, []).append(place)
        names, asked = _names(requests), []
        owners: dict[str, tuple[str, dict[str, list[int]]]] = {}
        for context, continuations in groups.items():
            name = names[min(min(places) for places in continuations.values())]
            owners[name] = (context, continuations)
            asked.append(_request(name, "loglikelihood", context, choices=tuple(continuations)))
        found: dict[int, tuple[float, bool]] = {}
        for response in self._responses(scorer.loglikelihood, asked, disable_tqdm):
            context, continuations = owners[response.id]
            scored = zip(continuations.items(), response.logprobs, response.greedy, strict=True)
            for (continuation, places), logprob, greedy in scored:
                self.cache_hook.add_partial("loglikelihood", (context, continuation), (logprob, greedy))
                found.update(dict.fromkeys(places, (logprob, greedy)))
        return [found[place] for place in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability (nats) of each text as a whole, in windows of the model's length."""
        roller = self._able(Roller, "score whole texts")
        texts = [instance.args[0] for instance in requests]
        names, places = _names(requests), _places(texts)
        asked = {names[same[0]]: texts[same[0]] for same in places}
        owners = {names[same[0]]: same for same in places}
        found: dict[int, float] = {}
        rolling = [_request(name, "rolling", text) for name, text in asked.items()]
        for response in self._responses(roller.rolling, rolling, disable_tqdm):
            (total,) = response.logprobs
            self.cache_hook.add_partial("loglikelihood_rolling", (asked[response.id],), total)
            found.update(dict.fromkeys(owners[response.id], total))
        return [found[place] for place in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each (context, gen_kwargs), without the stop string that ended it and what follows."""
        chosen = [arguments.options(instance.args[1]) for instance in requests]
        alone = getattr(self.model, "answers_by_id", False)
        keys: list[Hashable] = [
            (instance.args[0], wanted, place if alone or wanted.temperature > 0 else None)
            for place, (instance, wanted) in enumerate(zip(requests, chosen, strict=True))
        ]
        names, writer = _names(requests), self._able(Writer, "write answers")
        owners = {names[same[0]]: same for same in _places(keys)}
        asked = [
            _request(name, "generate", requests[first].args[0], options=chosen[first], seed=self._seed)
            for name, (first, *_) in owners.items()
        ]
        found: dict[int, str] = {}
        for response in self._responses(writer.generate, asked, disable_tqdm):
            for place in owners[response.id]:
                found[place] = arguments.cut(response.text, chosen[place].stop)
                self.cache_hook.add_partial("generate_until", requests[place].args, found[place])
        return [found[place] for place in range(len(requests))]

    def _able(self, protocol: type, what: str) -> Any:
        if not isinstance(self.model, protocol):
            raise ModelError(f"'{self.model.name}' cannot {what}; use another model, or tasks that need something else")
        return self.model

    def _responses(self, ask: Ask, asked: Sequence[Request], quiet: bool) -> Iterator[Response]:
        """Each request's response, as it comes; ModelError for the first that failed."""
        from tqdm import tqdm

        missing = {request.id for request in asked}
        kind = asked[0].kind if asked else ""
        with tqdm(total=len(asked), disable=quiet, desc=f"Running {kind} requests") as bar:
            for response in ask(asked) if asked else ():
                if response.failed:
                    raise ModelError(f"'{self.model.name}' failed on {response.id}: {response.error}")
                missing.discard(response.id)
                yield response
                bar.update(1)
        if missing:
            raise ModelError(f"'{self.model.name}' gave no answer to {min(missing)} ({len(missing)} in all)")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; None for models that are not on this machine."""
        return getattr(self.model, "tokenizer", None)

    @property
    def _template(self) -> str:
        """The chat template in use; empty where there is none."""
        return getattr(self.model, "template", None) or ""

    @property
    def max_length(self) -> int | None:
        """How many tokens the model reads at most; None where that is not known."""
        return self.model._open().network.max_length if isinstance(self.model, LocalModel) else None

    @property
    def max_gen_toks(self) -> int:
        return arguments.MAX_GEN_TOKS

    @property
    def tokenizer_name(self) -> str:
        """What tells lm-eval's cache of rendered prompts apart: the model's name, and a digest of its chat template."""
        return re.sub(r"[^\w.-]+", "__", f"{self.model.name}-{text_digest(self._template)[:12]}")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The chat template's text, for lm-eval's records; None when no template is asked for."""
        if isinstance(chat_template, str) and chat_template != "default":
            raise ModelError(f"--apply_chat_template {chat_template}: vevals uses the model's default template only")
        return self._template if chat_template else None

    def apply_chat_template(self, chat_history: list[Turn], add_generation_prompt: bool = True) -> str:
        """The turns as one text. Without a system turn where the template refuses one, as in lm-eval's own models."""
        if self.tokenizer is None:
            return Conversation(json.dumps(chat_history, ensure_ascii=False))
        if not self._template:
            raise ModelError(f"'{self.model.name}' has no chat template in use; leave out --apply_chat_template")
        try:
            return self._rendered(chat_history, add_generation_prompt)
        except Exception as error:  # a template may raise anything about the turns it is given
            rest = [turn for turn in chat_history if turn["role"] != "system"]
            if len(rest) == len(chat_history):
                raise ModelError(f"'{self.model.name}': the chat template failed: {one_line(error)}") from error
            log.warning("The chat template refuses the system turn (%s); it is left out", one_line(error))
            return self._rendered(rest, add_generation_prompt)

    def _rendered(self, turns: list[Turn], asks: bool) -> str:
        shape = {"tokenize": False, "add_generation_prompt": asks, "continue_final_message": not asks}
        return cast("str", self.tokenizer.apply_chat_template(turns, chat_template=self._template, **shape))

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside the scores: which model answered, and under which conditions."""
        model = self.model
        found = {"version": __version__, "model": model.name, "identity": dict(model.identity)}
        return {"vevals": {**found, **({"conditions": dict(model.conditions)} if isinstance(model, Described) else {})}}


def _loaded(pretrained: str | Model, settings: Mapping[str, Any]) -> Model:
    if isinstance(pretrained, str):
        model = load_model(arguments.spec(pretrained, settings))
    elif settings:
        raise ModelError(f"model_args: '{next(iter(settings))}' goes to load_model, not with a model that is loaded")
    else:
        model = pretrained
    if isinstance(model, Informed):
        raise ModelError(f"'{model.name}' only repeats answers that it is shown, and lm-eval shows none; use a model")
    return model


def _request(name: str, kind: RequestKind, context: str, **rest: Any) -> Request:
    if isinstance(context, Conversation):
        return Request(name, kind, context.messages, **rest)
    return Request(name, kind, (), prompts=(context,), **rest)


def _names(requests: Sequence[Instance]) -> list[str]:
    """``task/document`` for each, with ``#2`` and so on where one asks more than once."""
    seen: Counter[str] = Counter()
    names: list[str] = []
    for instance in requests:
        name = f"{instance.task_name or 'request'}/{len(names) if instance.doc_id is None else instance.doc_id}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _places(keys: Sequence[Hashable]) -> list[list[int]]:
    """Where each distinct key stands, in order of its first place."""
    found: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())
