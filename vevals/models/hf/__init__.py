"""Models on this machine: a hub id, a folder, or a GGUF file (``hf:NAME?setting=value``).

``load`` finds out what lies there, from names and headers alone; nothing heavy is loaded before the first question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from vevals.engine import files
from vevals.errors import MissingExtra, ModelError
from vevals.models.hf.causal import CausalModel
from vevals.models.hf.classifier import ClassifierModel
from vevals.models.hf.seq2seq import Seq2SeqModel
from vevals.models.hf.settings import VALUES, Settings
from vevals.models.hf.workers import ParallelModel, parallel

__all__ = ["CausalModel", "ClassifierModel", "ParallelModel", "Seq2SeqModel", "Settings", "load"]

LocalKind = CausalModel | Seq2SeqModel | ClassifierModel
KINDS: Mapping[files.Kind, type[LocalKind]] = {
    "causal": CausalModel,
    "seq2seq": Seq2SeqModel,
    "classifier": ClassifierModel,
}
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def load(name: str, settings: Mapping[str, str]) -> LocalKind | ParallelModel:
    """The model called ``name``: a folder, a ``.gguf`` file, or a hub id. Only looks whether it is there.

    What kind of model it is stands in its config, unless ``kind`` says so; of a hub id that alone is fetched for it.

    Raises:
        ModelError: unknown setting, one that means nothing for this kind, or a path at which no such model lies.
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
    kind, parsed = _kind(name, path if local else None, parsed)
    _check(name, kind, settings)
    model = KINDS[kind](path.name or path.resolve().name if local else name, path if local else None, parsed)
    if local:
        _ = model.template  # reads the files' names and headers, so that a wrong path is an error now
    return parallel(model) if parsed.parallel else model


def _kind(name: str, path: Path | None, settings: Settings) -> tuple[files.Kind, Settings]:
    """The kind of the model, and the settings in which ``kind`` is left only where the config says another."""
    wanted = settings.kind
    if path is None and wanted != "auto":
        return cast("files.Kind", wanted), settings
    config = files.hub_config(name, settings.revision) if path is None else files.read_json(path / files.CONFIG)
    try:
        found = files.kind_of(config, f"'hf:{name}'")
    except ModelError:
        if wanted == "auto":
            raise
        return cast("files.Kind", wanted), settings
    if wanted in ("auto", found):
        return found, replace(settings, kind="auto")
    return cast("files.Kind", wanted), settings


def _check(name: str, kind: files.Kind, given: Mapping[str, str]) -> None:
    """Refuse settings that mean nothing for this kind of model."""
    nothing = {"classifier": ("chat",)}.get(kind, ("labels",))
    for key in nothing:
        if key in given:
            raise ModelError(f"'hf:{name}' is a model of the kind {kind}, where '{key}' means nothing; leave it out")
    other = "left" if kind == "classifier" else "right"
    if given.get("truncate") == other:
        known = ", ".join(value for value in VALUES["truncate"] if value != other)
        raise ModelError(f"'hf:{name}': truncate is '{other}'; a model of the kind {kind} has {known}")
