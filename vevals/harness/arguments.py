"""What lm-eval's arguments mean here: ``--model_args`` are a model's name, generation arguments are ``Options``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from vevals.errors import ModelError
from vevals.models import ALIASES, BACKENDS, ENTRY_POINTS
from vevals.types import Options

SETTINGS = ("dtype", "device", "revision", "trust_remote_code", "max_length", "truncate", "batch_tokens")
MAX_GEN_TOKS = 256
"""What lm-eval generates where a task does not say how much."""
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1, None),
    "num_return_sequences": (1, None),
    "repetition_penalty": (1, None),
    "top_k": (0, None),
}
"""Settings that change nothing at these values; at any other they are refused."""
CLI_DEVICE = "cuda:0"
"""The device that lm-eval's command line passes when nobody named one."""

log = logging.getLogger(__name__)


def spec(pretrained: str, given: Mapping[str, Any]) -> str:
    """The vevals name for ``pretrained`` (folder, hub id, or vevals name such as ``smollm2``) and other model_args.

    Inputs that are too long are cut on the left (``truncate=left``), as lm-eval's own models do, unless told otherwise.

    Raises:
        ModelError: an argument that vevals does not know, or one that is given twice.
    """
    for key in given:
        if key not in SETTINGS:
            known = ", ".join(("pretrained", *SETTINGS, "seed"))
            raise ModelError(f"model_args: --model vevals has no argument '{key}'; it has {known}")
    named = _is_named(pretrained)
    head, _, query = pretrained.partition("?") if named else (f"hf:{pretrained}", "", "")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    for key, value in given.items():
        if key in settings:
            raise ModelError(f"model_args: '{key}' is in pretrained={pretrained} already; give it once")
        settings[key] = _word(value)
    if is_local(head):
        settings.setdefault("truncate", "left")
    return f"{head}?{urlencode(settings)}" if settings else head


def is_local(pretrained: str) -> bool:
    """Whether the model runs on this machine: a folder, file or hub id, an alias, or a name with prefix ``hf:``."""
    return not _is_named(pretrained) or pretrained.partition("?")[0] in ALIASES or pretrained.startswith("hf:")


def _is_named(pretrained: str) -> bool:
    """Whether this is a vevals name, and not a folder or hub id as lm-eval writes it."""
    head = pretrained.partition("?")[0]
    prefix, colon, _ = head.partition(":")
    if Path(pretrained).exists():
        return False
    if colon and head not in ALIASES:
        return prefix in BACKENDS or bool(entry_points(group=ENTRY_POINTS, name=prefix))
    return head in ALIASES


def _word(value: Any) -> str:
    """A value as it stands in a vevals name; ``torch.float32`` and ``True`` come from Python callers."""
    return str(value).lower() if isinstance(value, bool) else str(value).removeprefix("torch.")


def merged(given: Mapping[str, Any], run: Mapping[str, Any] | None) -> dict[str, Any]:
    """model_args with what lm-eval adds for the run (``device``, ``batch_size``); model_args win.

    The command line passes ``cuda:0`` also where nobody asked for it; without a GPU that is left out, as in lm-eval.
    """
    from vevals.engine.load import on_gpu

    added = {key: value for key, value in (run or {}).items() if value is not None and key not in given}
    pretrained = given.get("pretrained")
    if not isinstance(pretrained, str) or not is_local(pretrained) or "device=" in pretrained.partition("?")[2]:
        added.pop("device", None)
    elif added.get("device") == CLI_DEVICE and not on_gpu("auto"):
        log.info("There is no GPU for device=%s, which is lm-eval's default; the model runs on the CPU", CLI_DEVICE)
        del added["device"]
    return {**given, **added}


def options(given: Mapping[str, Any]) -> Options:
    """``gen_kwargs`` as options, with lm-eval's meaning: ``do_sample`` decides, and without it ``temperature`` does.

    Raises:
        ModelError: a setting that vevals does not have.
    """
    temperature = _temperature(given)
    for key, value in given.items():
        if key in NEUTRAL and not (value in NEUTRAL[key] or (key == "top_k" and temperature == 0)):
            raise ModelError(f"gen_kwargs: {key} is {value}, which vevals does not do; leave it out of the task")
        if key not in (*NEUTRAL, *LIMITS, "until", "do_sample", "temperature", "top_p"):
            raise ModelError(f"gen_kwargs: vevals has no '{key}'; leave it out of the task or of --gen_kwargs")
    top_p = given.get("top_p")
    return Options(
        max_tokens=_limit(given),
        temperature=temperature,
        top_p=1.0 if top_p is None or temperature == 0 else float(top_p),
        stop=_stops(given.get("until")),
    )


def _temperature(given: Mapping[str, Any]) -> float:
    asked, sampled = given.get("temperature"), given.get("do_sample")
    temperature = 0.0 if asked is None else float(asked)
    if sampled and temperature == 0:
        raise ModelError("gen_kwargs: do_sample is true, but temperature is 0 or missing; give a temperature above 0")
    return temperature if sampled or sampled is None else 0.0


def _limit(given: Mapping[str, Any]) -> int:
    limits = {key: int(given[key]) for key in LIMITS if given.get(key) is not None}
    if len(set(limits.values())) > 1:
        found = " and ".join(f"{key}={value}" for key, value in limits.items())
        raise ModelError(f"gen_kwargs: {found} say different things; keep one of them")
    return next(iter(limits.values()), MAX_GEN_TOKS)


def _stops(until: str | Sequence[str] | None) -> tuple[str, ...]:
    found = [until] if isinstance(until, str) else list(until or ())
    if wrong := [stop for stop in found if not isinstance(stop, str) or not stop]:
        raise ModelError(f"gen_kwargs: until has {wrong[0]!r}; every stop is a text of at least one character")
    return tuple(dict.fromkeys(found))


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the earliest stop. Models that stop by themselves leave nothing to do."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]
