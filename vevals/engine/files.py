"""A model's files without loading it: where they are, their hashes, the chat template. No torch, no transformers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal

from vevals.errors import MissingExtra, ModelError
from vevals.places import cache_folder

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
CONFIG = "config.json"
CONFIG_FILES = (CONFIG, "generation_config.json")
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
GGUF_TEMPLATE = "tokenizer.chat_template"
Kind = Literal["causal", "seq2seq", "classifier"]
"""What a model does: continue a text, answer one text with another, or name the label of a text."""
_CLASSIFIER = "ForSequenceClassification"
_OTHER_KINDS = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
_HUB_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
_GGUF_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_GGUF_STRING, _GGUF_ARRAY = 8, 9


def digest(path: Path) -> str:
    """SHA-256 of a file, remembered in the cache folder as long as its path, size and time of change stay the same."""
    real = path.resolve()
    stat = real.stat()
    key = json.dumps([str(real), stat.st_size, stat.st_mtime_ns])
    note = cache_folder() / "hashes" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["file"] == key:
            return str(known["sha256"])
    with real.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(OSError):
        _write(note, json.dumps({"file": key, "sha256": found}))
    return found


def _write(path: Path, text: str) -> None:
    """Write as a whole or not at all: readers beside us see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as stream:
        stream.write(text)
    Path(stream.name).replace(path)


def combined(files: Iterable[Path]) -> str | None:
    """SHA-256 over the (name, SHA-256) of the files, in order of name; None without files."""
    pairs = sorted((path.name, digest(path)) for path in files)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest() if pairs else None


def matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Files directly in ``folder`` that match a pattern."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def weights(folder: Path) -> list[Path]:
    """The weight files: safetensors, else PyTorch's own format, as transformers chooses."""
    return next((found for pattern in WEIGHT_PATTERNS if (found := matching(folder, [pattern]))), [])


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no file.

    Raises:
        ModelError: it is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON ({error}); get a fresh copy of the model") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} should hold a JSON object; get a fresh copy of the model")
    return found


def kind_of(config: Mapping[str, Any], where: str) -> Kind:
    """What the model of a config does; ``where`` names the model in errors.

    Raises:
        ModelError: it does something that hf: has no use for, such as filling masks.
    """
    architectures = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith(_CLASSIFIER) for name in architectures):
        return "classifier"
    if any(name.endswith(_OTHER_KINDS) for name in architectures):
        known = "causal language models, encoder-decoders and sequence classifiers"
        raise ModelError(f"{where} is a {', '.join(architectures)}; hf: runs {known}")
    return "seq2seq" if config.get("is_encoder_decoder") else "causal"


def check_folder(folder: Path, kind: Kind | None = "causal") -> None:
    """Raise ModelError unless ``folder`` looks like a model of this ``kind`` (None: somebody else says what it is)."""
    if not (folder / CONFIG).is_file():
        what = f"has no {CONFIG}" if any(folder.iterdir()) else "is empty"
        raise ModelError(f"{folder} is no model folder: it {what}; name the folder that holds {CONFIG} and weights")
    if not weights(folder):
        raise ModelError(f"{folder} has a {CONFIG} but no weights (*.safetensors or pytorch_model*.bin); add them")
    if kind is not None and (found := kind_of(read_json(folder / CONFIG), str(folder))) != kind:
        raise ModelError(f"{folder} is a model of the kind {found}, not {kind}; write kind={found}")


def check_gguf(path: Path) -> None:
    """Raise ModelError unless ``path`` starts like a GGUF file."""
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file (its first bytes are not 'GGUF'); get a fresh copy of it")


def folder_template(folder: Path) -> str | None:
    """The default chat template of a model folder; None where there is none."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        found = read_json(folder / name).get("chat_template")
        if isinstance(found, list):
            found = next((one.get("template") for one in found if one.get("name") == "default"), None)
        if isinstance(found, str):
            return found
    return None


@dataclass(slots=True)
class _Header:
    """A GGUF header being read. Source: the GGUF specification, version 3, in the ggml repository (docs/gguf.md)."""

    stream: BinaryIO

    def number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self.stream.read(size))[0]

    def text(self) -> str:
        return self.stream.read(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _GGUF_STRING:
            return self.text()
        if kind == _GGUF_ARRAY:
            of, count = self.number("I"), self.number("Q")
            return [self.value(of) for _ in range(count)]
        return self.number(_GGUF_FORMATS[kind])


def gguf_metadata(path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """The ``wanted`` keys of a GGUF file's metadata, as far as it has them.

    Raises:
        ModelError: the header cannot be read.
    """
    check_gguf(path)
    found: dict[str, Any] = {}
    with path.open("rb") as stream:
        header = _Header(stream)
        try:
            stream.seek(4)
            header.number("I"), header.number("Q")
            for _ in range(header.number("Q")):
                key, kind = header.text(), header.number("I")
                value = header.value(kind)
                if key in wanted:
                    found[key] = value
        except (struct.error, KeyError, MemoryError, OverflowError):
            raise ModelError(f"{path}: the GGUF header cannot be read; get a fresh copy of the file") from None
    return found


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def template(path: Path) -> str | None:
    """The model's own chat template, whether or not it is used."""
    if path.is_dir():
        return folder_template(path)
    found = gguf_metadata(path, (GGUF_TEMPLATE,)).get(GGUF_TEMPLATE)
    return found if isinstance(found, str) else None


def parts(path: Path) -> dict[str, str | None]:
    """Hashes of what makes the model: ``weights``, ``config``, ``tokenizer``. A GGUF file holds all three."""
    if path.is_file():
        return dict.fromkeys(("weights", "config", "tokenizer"), combined([path]))
    return {
        "weights": combined(weights(path)),
        "config": combined(matching(path, CONFIG_FILES)),
        "tokenizer": combined(matching(path, TOKENIZER_FILES)),
    }


def snapshot(name: str, revision: str) -> Path:
    """The folder of a hub id's snapshot, named after its commit; downloaded unless it is there.

    Raises:
        ModelError: the hub does not know it, keeps it closed, or cannot be reached.
    """
    with _from_hub(name):
        from huggingface_hub import snapshot_download

        shape: dict[str, Any] = {"revision": revision or None, "ignore_patterns": ["*/*", "consolidated*"]}
        for pattern in WEIGHT_PATTERNS:
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, pattern], **shape))
            if weights(folder):
                break
    return folder


def hub_config(name: str, revision: str) -> dict[str, Any]:
    """The config of a hub id, from the hub's cache on this machine or else from the hub. Raises as ``snapshot``."""
    with _from_hub(name):
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        known = try_to_load_from_cache(name, CONFIG, revision=revision or None)
        path = known if isinstance(known, str) else hf_hub_download(name, CONFIG, revision=revision or None)
    return read_json(Path(path))


@contextlib.contextmanager
def _from_hub(name: str) -> Iterator[None]:
    if find_spec("huggingface_hub") is None:
        raise MissingExtra("hf: models", "hf")
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"'hf:{name}' is no folder here, and the hub did not give it ({one_line(error)}); "
            "check the name and the connection, or give a local directory"
        ) from error


def one_line(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    return " ".join((str(error) or type(error).__name__).split())[:300]
