"""Models on this machine: a hub id, a folder, or a GGUF file (``hf:NAME?setting=value``).

``load`` finds out what lies there, from names and headers alone; nothing heavy is loaded before the first question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from vevals.errors import MissingExtra, ModelError
from vevals.models.hf.causal import CausalModel
from vevals.models.hf.settings import Settings

__all__ = ["CausalModel", "Settings", "load"]

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")


def load(name: str, settings: Mapping[str, str]) -> CausalModel:
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
    model = CausalModel(path.name or path.resolve().name if local else name, path if local else None, parsed)
    if local:
        _ = model.template  # reads the files' names and headers, so that a wrong path is an error now
    return model
