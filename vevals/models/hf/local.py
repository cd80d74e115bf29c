"""A model of this machine before anything is asked of it: its files, its identity, and its weights on their device."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from vevals.engine import files
from vevals.engine.gguf import CONVERTER, converted
from vevals.engine.load import Loaded, Order, loaded, on_gpu, read_tokenizer
from vevals.engine.network import Network
from vevals.errors import ModelError
from vevals.models.hf.settings import Settings


class LocalModel:
    """What every kind of local model shares. See ``vevals.models.Model`` for what the methods promise."""

    kind: ClassVar[files.Kind] = "causal"
    plain_prompts: ClassVar[bool] = True

    def __init__(self, source: str, path: Path | None, settings: Settings) -> None:
        self.name = f"hf:{source}{settings.shown}"
        self._source, self._local, self._settings = source, path, settings
        self._opened: Loaded | None = None

    @cached_property
    def _path(self) -> Path:
        """The folder or GGUF file; downloads what a hub id names."""
        path = self._local if self._local is not None else files.snapshot(self._source, self._settings.revision)
        if path.is_dir():
            files.check_folder(path, self.kind if self._settings.kind == "auto" else None)
        elif path.suffix == ".gguf":
            files.check_gguf(path)
            if self.kind != "causal":
                raise ModelError(f"'{self.name}': a GGUF file is run as a causal language model; leave kind out")
        else:
            raise ModelError(f"'{self.name}' is a file, but no .gguf; give a model folder, a .gguf file or a hub id")
        return path

    @cached_property
    def _own_template(self) -> str | None:
        """The model's chat template, whether or not it is used."""
        return files.template(self._path)

    @property
    def template(self) -> str | None:
        """The chat template in use; None when messages are joined to plain text."""
        found = self._own_template
        if self._settings.chat == "yes" and found is None:
            raise ModelError(f"'{self.name}': a model without chat template asked for chat; use chat=no")
        return None if self._settings.chat == "no" else found

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What can change an answer, found without loading the model. JSON-able, the same on every machine."""
        version_of = version("transformers").split(".")
        found = {
            "kind": "hf",
            "source": self._source,
            "revision": None if self._local is not None else self._path.name,
            **files.parts(self._path),
            "chat_template": None if self._own_template is None else files.text_digest(self._own_template),
            "chat": "no" if self.template is None else "yes",
            "dtype": self._dtype,
            "truncate": self._settings.truncate,
            "backend": "transformers " + ".".join(version_of[:2]),
            **self._identity_of_kind,
            **({"max_length": int(limit)} if (limit := self._settings.max_length) else {}),
        }
        return {**found, "converter": CONVERTER} if self._path.is_file() else found

    @property
    def _identity_of_kind(self) -> Mapping[str, Any]:
        """What a kind of model adds to the identity. Causal models add nothing: their stored answers stay theirs."""
        return {} if self.kind == "causal" else {"task": self.kind}

    @property
    def conditions(self) -> Mapping[str, Any]:
        """How it ran; the device is known once it has been loaded."""
        loaded = {} if self._opened is None else {"device": str(self._opened.network.device)}
        return {"kind": self.kind, "dtype": self._dtype, **loaded}

    @cached_property
    def _dtype(self) -> str:
        """The dtype asked for; ``auto`` is float32 on a CPU and what the config says on a GPU."""
        if self._settings.dtype != "auto":
            return self._settings.dtype
        if self._path.is_file() or not on_gpu(self._settings.device):
            return "float32"
        config = files.read_json(self._path / "config.json")
        config = {**config, **(config.get("text_config") or {})}
        return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, as transformers loads it; the weights are left alone."""
        return self._opened.tokenizer if self._opened else read_tokenizer(self._order)

    def close(self) -> None:
        """Free the memory. A later question loads the model again."""
        if self._opened is None:
            return
        self._opened = None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _open(self) -> Loaded:
        if self._opened is None:
            self._opened = loaded(self._order, self._own_template)
            if self._settings.max_length:
                self._limit(self._opened.network, int(self._settings.max_length))
        return self._opened

    def _limit(self, network: Network, wanted: int) -> None:
        if self.kind == "causal" and 0 < network.stated_length < wanted:
            most = f"its config allows {network.stated_length} tokens"
            raise ModelError(f"'{self.name}': max_length is {wanted}, but {most}; give no more, or leave it out")
        network.max_length = wanted

    @property
    def _order(self) -> Order:
        folder, settings = converted(self._path) if self._path.is_file() else self._path, self._settings
        trusted = settings.trust_remote_code == "true"
        return Order(self.name, folder, self.template, self._dtype, settings.device, trusted, self.kind)
