"""Responses of local models: answers, and what is said of a request that cannot be served, in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping

from vevals.engine.writing import Answer, Prompt
from vevals.types import ErrorKind, FinishReason, Request, Response


def answered(request: Request, prompt: Prompt, answer: Answer | None) -> Response:
    """A generated answer; None: it did not fit into memory."""
    if answer is None:
        return no_memory(request)
    return Response(
        request.id,
        text=answer.text,
        input_tokens=len(prompt.tokens),
        output_tokens=answer.tokens,
        seconds=answer.seconds,
        finish_reason=answer.finish,
    )


def wrong_options(request: Request) -> Response | None:
    options = request.options
    checks: Mapping[str, bool] = {
        f"max_tokens is {options.max_tokens}; use 1 or more": options.max_tokens < 1,
        f"temperature is {options.temperature}; use 0 or more": not options.temperature >= 0,
        f"top_p is {options.top_p}; use more than 0, up to 1": not 0 < options.top_p <= 1,
        "a stop string is empty; leave it out": "" in options.stop,
    }
    wrong = next((message for message, found in checks.items() if found), None)
    return None if wrong is None else failed(request, ErrorKind.bad_request, wrong)


def failed(request: Request, kind: ErrorKind, message: str) -> Response:
    return Response(request.id, error=message, error_kind=kind, finish_reason=FinishReason.error)


def too_long(request: Request, wanted: str, limit: int, side: str = "left") -> Response:
    message = f"{wanted} are more than the model's {limit}; shorten the prompt or set truncate={side}"
    return failed(request, ErrorKind.too_long, message)


def no_memory(request: Request) -> Response:
    message = "not enough memory for this request even by itself; use a smaller model, dtype or prompt"
    return failed(request, ErrorKind.out_of_memory, message)
