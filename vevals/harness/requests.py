"""What lm-eval asks of a model (its Instances of one document) as one Request, and a Response as lm-eval's results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vevals.errors import BenchmarkError, ModelError
from vevals.harness import arguments
from vevals.types import Message, Options, Request, RequestKind, Response

KINDS: Mapping[str, RequestKind] = {
    "multiple_choice": "loglikelihood",
    "loglikelihood": "loglikelihood",
    "loglikelihood_rolling": "rolling",
    "generate_until": "generate",
}


def options_of(given: Mapping[str, Any] | None) -> Options:
    """``generation_kwargs`` of a task as options; an empty stop stops nothing, as in lm-eval.

    Raises:
        BenchmarkError: a setting that no vevals model has.
    """
    settings = dict(given or {})
    until = settings.pop("until", None) or ()
    stops = [until] if isinstance(until, str) else [stop for stop in until if stop != ""]
    try:
        return arguments.options({**settings, "until": stops})
    except ModelError as error:
        raise BenchmarkError(str(error)) from None


def request_of(number: str, instances: Sequence[Any], messages: tuple[Message, ...], options: Options) -> Request:
    """The instances of one document, which lm-eval asks one by one, as one request.

    ``messages``: the conversation that stands for the context, where a chat template is applied; else none.
    """
    kinds = {instance.request_type for instance in instances}
    if len(kinds) != 1:
        listed = " and ".join(sorted(kinds)) or "nothing"
        raise BenchmarkError(f"a document asks for {listed} together, which vevals cannot do")
    [kind] = kinds
    if kind == "loglikelihood_rolling":
        return Request(number, "rolling", (), Options(max_tokens=1), prompts=(instances[0].args[0],))
    contexts = [instance.args[0] for instance in instances]
    if kind == "generate_until":
        prompts = () if messages else (contexts[0],)
        return Request(number, "generate", messages, options, prompts=prompts)
    prompts = () if messages else tuple(contexts) if len(set(contexts)) > 1 else (contexts[0],)
    choices = tuple(instance.args[1] for instance in instances)
    return Request(number, "loglikelihood", messages, Options(max_tokens=1), choices, prompts=prompts)


def results_of(kind: RequestKind, response: Response) -> list[Any]:
    """What lm-eval's models would have returned for each instance of the document.

    Raises:
        ValueError: numbers are missing, or are not numbers.
    """
    if kind == "generate":
        return [response.text]
    if not response.logprobs or any(math.isnan(value) for value in response.logprobs):
        raise ValueError("the model gave no log-probability")
    if kind == "rolling":
        return [response.logprobs[0]]
    return list(zip(response.logprobs, response.greedy, strict=True))
