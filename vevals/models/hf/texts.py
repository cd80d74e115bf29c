"""The texts of a request before they are tokens: what stands before an answer, and whether special tokens are added."""

from __future__ import annotations

from vevals.engine import files
from vevals.engine.load import Loaded
from vevals.models.hf.responses import failed
from vevals.types import ErrorKind, Request, Response

Text = tuple[str, bool]
"""A text, and whether the tokenizer adds its special tokens."""


def contexts(request: Request, opened: Loaded) -> list[Text] | Response:
    """The texts before the answer: one, or one a choice."""
    try:
        texts = request.prompts or (opened.rendered(request.messages),)
        "".join((*texts, *request.choices)).encode()
    except Exception as error:  # a template may raise anything about the messages it is given
        return failed(request, ErrorKind.bad_request, f"the prompt cannot be written: {files.one_line(error)}")
    bos = opened.tokenizer.bos_token
    plain = bool(request.prompts) or opened.template is None
    return [(text, plain and not (bos and text.startswith(bos))) for text in texts]


def scored_contexts(request: Request, opened: Loaded) -> list[Text] | Response:
    """The same for a request whose choices are scored; refused where it has none, or not as many prompts."""
    if not request.choices or not all(request.choices):
        what = "an empty choice" if request.choices else "no choices"
        return failed(request, ErrorKind.bad_request, f"the request has {what}; nothing can be scored")
    found = contexts(request, opened)
    if not isinstance(found, Response) and len(found) not in (1, len(request.choices)):
        wrong = f"{len(found)} prompts for {len(request.choices)} choices; give one, or one for each"
        return failed(request, ErrorKind.bad_request, f"the request has {wrong}")
    return found
