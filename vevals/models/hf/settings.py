"""What may stand after ``?`` in the name of a local model, and which of it is part of the name. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from vevals.errors import ModelError

DTYPES = ("auto", "float32", "bfloat16", "float16")
VALUES: Mapping[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "chat": ("auto", "yes", "no"),
    "trust_remote_code": ("false", "true"),
    "truncate": ("none", "left"),
}
IN_NAME = ("dtype", "chat", "revision", "truncate")


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
