"""From files to a model that answers: tokenizer and weights on their device, and the tokens that end a turn."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vevals.engine.files import Kind, one_line
from vevals.engine.network import Network, out_of_memory
from vevals.errors import ModelError
from vevals.types import Message


@dataclass(frozen=True, slots=True)
class Order:
    """What to load: a model folder, and how. ``name`` is for error messages; ``template`` is the one in use."""

    name: str
    folder: Path
    template: str | None
    dtype: str
    device: str
    trusted: bool = False
    kind: Kind = "causal"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model and how it reads and writes. ``prefix`` starts a text without context: BOS, else EOS."""

    network: Network
    tokenizer: Any
    template: str | None
    ends: frozenset[int]
    specials: Mapping[str, int]

    @property
    def prefix(self) -> int | None:
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        found: int | None = bos if bos is not None else eos
        return found

    def rendered(self, messages: Sequence[Message]) -> str:
        if self.template is None:
            ordered = sorted(messages, key=lambda message: message.role != "system")
            return "\n\n".join(message.content for message in ordered)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        shape = {"tokenize": False, "add_generation_prompt": True, "chat_template": self.template}
        return str(self.tokenizer.apply_chat_template(turns, **shape))

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Token ids of each text. ``verbose`` off: a text that is too long is our error to report."""
        shape = {"add_special_tokens": special, "return_attention_mask": False, "verbose": False}
        found: list[list[int]] = self.tokenizer(list(texts), **shape)["input_ids"]
        return found

    def text(self, tokens: Sequence[int]) -> str:
        shape = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(list(tokens), **shape))


def loaded(order: Order, own_template: str | None) -> Loaded:
    """Tokenizer and weights on the device, ready for questions.

    An answer ends at any of: the generation config's and the tokenizer's end tokens, and the token that the model's
    ``own_template`` writes after a turn, whether or not that template is used.

    Raises:
        ModelError: transformers cannot load it, weights are missing, or there is too little memory.
    """
    from vevals.engine.decode import end_of_turn

    with _quietly(order.name):
        tokenizer, model = _pretrained(order)
    generation = getattr(model, "generation_config", None)
    eos = generation.eos_token_id if generation else None
    turn = end_of_turn(tokenizer, own_template)
    ends = {*(eos if isinstance(eos, list) else [eos]), tokenizer.eos_token_id, turn} - {None}
    special = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    network = Network(model, int(getattr(tokenizer, "model_max_length", 0) or 0))
    return Loaded(network, tokenizer, order.template, frozenset(ends), special)


def read_tokenizer(order: Order) -> Any:
    """The tokenizer alone.

    Raises:
        ModelError: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    with _quietly(order.name):
        return AutoTokenizer.from_pretrained(str(order.folder), **_local(order))


def _local(order: Order) -> dict[str, Any]:
    return {"trust_remote_code": order.trusted, "local_files_only": True}


def _pretrained(order: Order) -> tuple[Any, Any]:
    import torch
    from transformers import AutoTokenizer

    _set_threads()
    device = _device(order)
    if device != "cpu":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    placed = {"device_map": "auto"} if device == "split" else {}
    folder, local = str(order.folder), _local(order)
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    model, report = _class_of(order.kind).from_pretrained(
        folder, dtype=getattr(torch, order.dtype), output_loading_info=True, **placed, **local
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"'{order.name}': its weights lack {missing[0]} ({len(missing)} in all); get a fresh copy")
    return tokenizer, (model if placed else model.to(device)).eval()


def _device(order: Order) -> str:
    """Where the model goes: one device, or ``split``, for layers on all GPUs (accelerate places and calls them)."""
    import torch

    there = torch.cuda.is_available()
    if order.device == "split" and not there:
        raise ModelError(f"'{order.name}': device is 'split', which needs GPUs, and none is visible; use device=cpu")
    return ("cuda" if there else "cpu") if order.device == "auto" else order.device


def _class_of(kind: Kind) -> Any:
    """The class of transformers that puts the head of this kind onto a model."""
    import transformers

    return {
        "causal": transformers.AutoModelForCausalLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "classifier": transformers.AutoModelForSequenceClassification,
    }[kind]


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """No progress bars or advice on the terminal while loading; whatever goes wrong is one sentence."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        why = "there is not enough memory for it" if out_of_memory(error) else one_line(error)
        raise ModelError(f"'{name}' cannot be loaded: {why}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def on_gpu(device: str) -> bool:
    """Whether ``device`` will be a GPU. torch is asked only where there are signs of one."""
    if device != "auto":
        return not device.startswith("cpu")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    signs = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    if hidden or not any(Path(sign).exists() for sign in signs):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _set_threads() -> None:
    """One thread per physical core that this process may use, unless ``OMP_NUM_THREADS`` says otherwise."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and (cores := physical_cores()) is not None:
        torch.set_num_threads(cores)


def physical_cores() -> int | None:
    """Physical cores that this process may use; None on a system that does not tell."""
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(siblings.format(cpu)).read_text() for cpu in os.sched_getaffinity(0)})
    except (AttributeError, OSError):
        return None
