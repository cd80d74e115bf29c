"""A GGUF file becomes a folder of safetensors, once: dequantised by transformers, checked, kept under its hash."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vevals.engine.decode import end_of_turn
from vevals.engine.files import GGUF_TEMPLATE, digest, gguf_metadata, one_line
from vevals.engine.network import out_of_memory, spread_tokens
from vevals.errors import ModelError
from vevals.places import cache_folder

if TYPE_CHECKING:
    import torch

CONVERTER = 1
"""Goes up when a conversion comes out differently, so that older ones are not used again."""
MANIFEST = "manifest.json"
TOLERANCE = 1e-5
_ADDS_BOS = "tokenizer.ggml.add_bos_token"
_TEXTS = ("The quick brown fox", "2 + 2 =", "¿Qué hora es? 現在幾點？")


def converted(file: Path) -> Path:
    """The folder that holds ``file`` as float32 safetensors with its tokenizer; made at the first call (minutes).

    Raises:
        ModelError: transformers cannot read the file, or what was written does not compute what was read.
    """
    found = {"file": digest(file), "transformers": version("transformers"), "converter": CONVERTER}
    key = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    folder = cache_folder() / "gguf" / key
    if (folder / MANIFEST).is_file():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / MANIFEST).is_file():
            _make(file, folder, {**found, "key": key, "source": file.name, "torch": version("torch")})
    return folder


def _make(file: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Write beside ``folder`` and rename when complete: a folder with a manifest is always a whole one."""
    shutil.rmtree(folder, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name[:16]}-", dir=folder.parent))
    try:
        _convert(file, beside)
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
        beside.chmod(0o755)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _refused(file):
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        loading = {"gguf_file": file.name, "dtype": torch.float32, **_dequantised()}
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), **loading)
        metadata = gguf_metadata(file, (GGUF_TEMPLATE, _ADDS_BOS))
        _follow_bos(file, tokenizer, metadata.get(_ADDS_BOS))
        _strip(model)
        _add_ends(model, tokenizer, metadata.get(GGUF_TEMPLATE))
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        before, ids = _logits(model, tokenizer), _ids(tokenizer)
        del model
        again = AutoTokenizer.from_pretrained(str(folder))
        after = _logits(AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32), again)
    _compare(file, before, after, same_ids=ids == _ids(again))


def _dequantised() -> dict[str, Any]:
    """Ask for plain weights: with a kernel package installed some architectures would stay packed."""
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _strip(model: Any) -> None:
    """A model read from GGUF counts as quantised, and so as one that cannot be saved; its weights are plain now."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        with contextlib.suppress(AttributeError):
            delattr(model, name)


def _add_ends(model: Any, tokenizer: Any, template: str | None) -> None:
    """GGUF names one end token; chat models end their turn with another, known from the chat template."""
    known = model.generation_config.eos_token_id
    ends = {*(known if isinstance(known, list) else [known]), tokenizer.eos_token_id, end_of_turn(tokenizer, template)}
    found = sorted(end for end in ends if end is not None)
    model.generation_config.eos_token_id = found[0] if len(found) == 1 else found or None


def _follow_bos(file: Path, tokenizer: Any, wanted: bool | None) -> None:
    """Make the tokenizer add BOS exactly if the file says so; a file that says nothing leaves it as it is."""
    if wanted is None or tokenizer.bos_token_id is None or _adds_bos(tokenizer) == wanted:
        return
    with contextlib.suppress(AttributeError):
        tokenizer.add_bos_token = wanted
    if _adds_bos(tokenizer) != wanted:
        raise ModelError(
            f"{file}: its tokenizer should {'' if wanted else 'not '}add BOS, but cannot be told to; use safetensors"
        )


def _adds_bos(tokenizer: Any) -> bool:
    return bool(tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id])


def _ids(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in _TEXTS]


def _logits(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    """Logits (T, V) of three texts."""
    import torch

    size = model.config.get_text_config().vocab_size
    with torch.inference_mode():
        inputs = [tokenizer(text)["input_ids"] or spread_tokens(size, 4) for text in _TEXTS]
        return [model.eval()(input_ids=torch.tensor([tokens])).logits[0] for tokens in inputs]


def _compare(file: Path, before: list[torch.Tensor], after: list[torch.Tensor], same_ids: bool) -> None:
    apart = (
        max(float((one - other).abs().max()) for one, other in zip(before, after, strict=True)) if same_ids else None
    )
    if apart is None or not apart <= TOLERANCE:
        what = "its tokenizer encodes otherwise" if apart is None else f"logits differ by {apart:.1e}"
        raise ModelError(f"{file}: converted and read again, {what}; use the model's safetensors instead")


@contextlib.contextmanager
def _refused(file: Path) -> Iterator[None]:
    """Turn what transformers raises about a file into one sentence; keep its progress bars from the terminal."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    except ModelError:
        raise
    except Exception as error:
        why = (
            "there is not enough memory"
            if out_of_memory(error)
            else f"transformers cannot convert it: {one_line(error)}"
        )
        raise ModelError(f"{file}: {why}") from error
