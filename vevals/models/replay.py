"""Recorded outputs as a model: what production already said, scored like any other run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vevals import data
from vevals.errors import ModelError
from vevals.types import ErrorKind, FinishReason, Request, Response

SETTINGS = ("id", "text", "finish_reason", "where", "name")


def load(name: str, settings: Mapping[str, str]) -> ReplayModel:
    """``replay:FILE`` with settings ``id`` and ``text``: columns or JMESPath expressions (default ``id``, ``text``);
    ``finish_reason``: a column holding ``stop`` or ``length``; ``where``: a JMESPath condition that keeps rows;
    ``name``: what the leaderboard calls it (default: the file's name).
    """
    path = Path(name)
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise ModelError(f"'replay:{name}' has no setting '{unknown[0]}'; it has {', '.join(SETTINGS)}")
    if not path.is_file():
        raise ModelError(f"'replay:{name}': there is no such file")
    rows = data.load(data.DataSpec({"replay": data.FileSource(path=path.name)}), path.parent)
    texts = _texts(rows, settings)
    return ReplayModel(settings.get("name", f"replay:{path.name}"), texts, str(path))


@dataclass
class ReplayModel:
    """Answers a request with the text recorded under its id; one without a text is a failure, not an empty answer."""

    answers_by_id: ClassVar[bool] = True
    plain_prompts: ClassVar[bool] = True
    name: str
    texts: Mapping[str, tuple[str, FinishReason]]
    path: str

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        digest = hashlib.sha256()
        for key in sorted(self.texts):
            text, reason = self.texts[key]
            digest.update(f"{key}\0{text}\0{reason.name}\n".encode("utf-8", "surrogatepass"))
        return {"kind": "replay", "name": self.name, "outputs": digest.hexdigest()}

    def generate(self, requests: Sequence[Request]) -> Iterator[Response]:
        for request in requests:
            if request.id in self.texts:
                text, reason = self.texts[request.id]
                yield Response(request.id, text=text, finish_reason=reason)
            else:
                error = f"{self.path} has no output for id '{request.id}'"
                yield Response(request.id, error=error, error_kind=ErrorKind.missing, finish_reason=FinishReason.error)

    def close(self) -> None:
        """Nothing to free."""


def _texts(rows: data.Rows, settings: Mapping[str, str]) -> dict[str, tuple[str, FinishReason]]:
    columns = {key: settings.get(key, key) for key in ("id", "text")}
    for key, expression in columns.items():
        problem = data.check_expression(expression, rows.names)
        if problem:
            raise ModelError(f"{rows.where(0)}: {problem} (say ?{key}=COLUMN)")
    found: dict[str, tuple[str, FinishReason]] = {}
    for index, row in enumerate(rows):
        if "where" in settings and not data.column(row, settings["where"]):
            continue
        key, text = (data.column(row, columns[name]) for name in ("id", "text"))
        if key is None or text is None:
            raise ModelError(f"{rows.where(index)}: a row needs an id and a text")
        if str(key) in found:
            raise ModelError(f"{rows.where(index)}: the id '{key}' is there already; keep one output for each id")
        found[str(key)] = (str(text), _reason(row, settings, rows.where(index)))
    return found


def _reason(row: Mapping[str, Any], settings: Mapping[str, str], where: str) -> FinishReason:
    if "finish_reason" not in settings:
        return FinishReason.stop
    value = str(data.column(row, settings["finish_reason"]))
    if value not in ("stop", "length"):
        raise ModelError(f"{where}: finish_reason is '{value}'; it is stop or length")
    return FinishReason[value]
