"""GGUF files: converted once, checked, and refused in one sentence when they cannot be."""

from __future__ import annotations

import json
import struct

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

from vevals.engine import gguf  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.models import load_model  # noqa: E402


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_that_cannot_be_converted_is_one_sentence_and_leaves_nothing_behind(tmp_path, cache, capfd):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    with pytest.raises(ModelError, match=r"broken\.gguf: transformers cannot convert it"):
        gguf.converted(broken)
    assert [path.suffix for path in (cache / "gguf").iterdir() if path.suffix != ".lock"] == []
    assert capfd.readouterr().out == ""


def test_logits_that_changed_on_the_way_are_an_error(tmp_path):
    one = [torch.zeros(3, 5)]
    gguf._compare(tmp_path, one, [torch.full((3, 5), 9e-6)], same_ids=True)
    with pytest.raises(ModelError, match=r"logits differ by 2\.0e-05"):
        gguf._compare(tmp_path, one, [torch.full((3, 5), 2e-5)], same_ids=True)
    with pytest.raises(ModelError, match="logits differ by nan"):
        gguf._compare(tmp_path, one, [torch.full((3, 5), float("nan"))], same_ids=True)
    with pytest.raises(ModelError, match="encodes otherwise"):
        gguf._compare(tmp_path, one, one, same_ids=False)


@pytest.fixture(scope="session")
def converted(smollm2):
    """The embedded model's folder in the user's cache: converted once for all runs of the tests."""
    model = load_model(smollm2)
    return gguf.converted(model._path)


@pytest.mark.model
def test_a_conversion_is_kept_under_the_hash_of_what_it_was_made_of(converted, smollm2):
    manifest = json.loads((converted / gguf.MANIFEST).read_text())
    assert manifest["key"] == converted.name
    assert manifest["source"].endswith(".gguf")
    assert manifest["converter"] == gguf.CONVERTER
    before = (converted / gguf.MANIFEST).stat().st_mtime_ns
    assert gguf.converted(load_model(smollm2)._path) == converted
    assert (converted / gguf.MANIFEST).stat().st_mtime_ns == before


@pytest.mark.model
def test_a_conversion_is_plain_float32_and_knows_the_end_of_a_turn(converted):
    from safetensors import safe_open
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    with safe_open(converted / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118
    assert getattr(AutoConfig.from_pretrained(converted), "quantization_config", None) is None
    tokenizer = AutoTokenizer.from_pretrained(converted)
    ends = GenerationConfig.from_pretrained(converted).eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in (ends if isinstance(ends, list) else [ends])


@pytest.mark.model
def test_the_tokenizer_is_made_to_add_bos_as_the_file_says(converted):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert not gguf._adds_bos(tokenizer)
    gguf._follow_bos(converted, tokenizer, None)
    assert not gguf._adds_bos(tokenizer)
    gguf._follow_bos(converted, tokenizer, True)
    assert gguf._adds_bos(tokenizer)
    gguf._follow_bos(converted, tokenizer, False)
    assert not gguf._adds_bos(tokenizer)


@pytest.mark.model
def test_the_end_tokens_of_tokenizer_and_template_join_the_one_of_the_file(converted):
    from types import SimpleNamespace

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted)
    template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}"
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=7))
    gguf._add_ends(model, tokenizer, template)
    turn = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert model.generation_config.eos_token_id == sorted({7, turn, tokenizer.eos_token_id})


@pytest.mark.model
@pytest.mark.slow
def test_a_fresh_conversion_gives_the_same_weights_and_nothing_else(converted, smollm2, cache):
    from vevals.engine.files import digest

    again = gguf.converted(load_model(smollm2)._path)
    assert again.parent == cache / "gguf"
    assert again.name == converted.name
    assert digest(again / "model.safetensors") == digest(converted / "model.safetensors")
    assert {path.name for path in again.parent.iterdir()} == {again.name, f"{again.name}.lock"}
