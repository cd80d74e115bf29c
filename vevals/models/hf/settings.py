"""What may stand after ``?`` in the name of a local model, and which of it is part of the name. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from vevals.errors import ModelError

DTYPES = ("auto", "float32", "bfloat16", "float16")
VALUES: Mapping[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "chat": ("auto", "yes", "no"),
    "trust_remote_code": ("false", "true"),
    "truncate": ("none", "left", "right"),
    "kind": ("auto", "causal", "seq2seq", "classifier"),
}
_DEVICES = re.compile(r"auto|all|split|cpu(,cpu)*|cuda(:\d{1,3})?(,cuda(:\d{1,3})?)*", re.ASCII)
IN_NAME = ("dtype", "chat", "revision", "truncate", "kind", "labels", "max_length")
NUMBERS = ("batch_tokens", "max_length")


@dataclass(frozen=True, slots=True)
class Settings:
    """What may stand after ``?``. ``device`` and ``batch_tokens`` change the speed only, the others can change scores.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; a list of one kind, with a worker process for each
    (``cuda:0,cuda:1``, or ``cpu,cpu``, which share the cores); ``all``: a worker for every GPU that is visible; or
    ``split``: one model in layers across all GPUs, for one that is too large for any.

    ``truncate=left`` drops the start of an input that is too long, which is an error otherwise; for a classifier it is
    ``truncate=right``, which drops the end. ``max_length`` (tokens) replaces the limit of the config. ``labels``
    renames a classifier's labels, in the order of their ids.
    """

    dtype: str = "auto"
    device: str = "auto"
    chat: str = "auto"
    revision: str = ""
    trust_remote_code: str = "false"
    batch_tokens: str = ""
    truncate: str = "none"
    kind: str = "auto"
    labels: str = ""
    max_length: str = ""

    @property
    def shown(self) -> str:
        """What of them can change a score and was set: part of the model's name."""
        given = {key: getattr(self, key) for key in IN_NAME if getattr(self, key) != getattr(Settings(), key)}
        return f"?{urlencode(given)}" if given else ""

    @property
    def parallel(self) -> bool:
        """Whether several worker processes answer."""
        return self.device == "all" or "," in self.device

    @classmethod
    def parse(cls, name: str, given: Mapping[str, str]) -> Settings:
        """Check names and values; ModelError says what is known."""
        known = [field.name for field in fields(cls)]
        for key, value in given.items():
            if key not in known:
                raise ModelError(f"'hf:{name}' has no setting '{key}'; it has {', '.join(known)}")
            if key in VALUES and value not in VALUES[key]:
                raise ModelError(f"'hf:{name}': {key} is '{value}'; use {', '.join(VALUES[key])}")
        for key in NUMBERS:
            if (number := given.get(key)) is not None and not (number.isdecimal() and int(number) > 0):
                raise ModelError(f"'hf:{name}': {key} is '{number}'; use a whole number above 0")
        if (device := given.get("device")) is not None and not _DEVICES.fullmatch(device):
            usable = "auto, cpu, cuda, cuda:N, all, split, or a list of one kind such as cuda:0,cuda:1 or cpu,cpu"
            raise ModelError(f"'hf:{name}': device is '{device}'; use {usable}")
        return cls(**given)
