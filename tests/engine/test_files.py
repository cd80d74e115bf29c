"""What is known of a model from its files alone."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import pytest

from vevals.engine import files
from vevals.errors import ModelError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "model"
    found.mkdir()
    (found / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (found / "model.safetensors").write_bytes(b"weights")
    return found


def gguf(path, *entries, count=None):
    """A GGUF header with (key, kind, packed value) entries."""
    body = b"".join(_text(key) + struct.pack("<I", kind) + value for key, kind, value in entries)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries) if count is None else count) + body)
    return path


def _text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, cache):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = files.digest(path)
    (note,) = (cache / "hashes").iterdir()
    note.write_text(note.read_text().replace(first, "remembered"))
    assert files.digest(path) == "remembered"
    os.utime(path, ns=(2, 2))
    assert files.digest(path) == first
    path.write_bytes(b"two")
    assert files.digest(path) not in (first, "remembered")


def test_a_broken_note_in_the_cache_is_not_believed(tmp_path, cache):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = files.digest(path)
    (note,) = (cache / "hashes").iterdir()
    for broken in ("", "[]", "{}", "\x00"):
        note.write_text(broken)
        assert files.digest(path) == first


def test_a_cache_that_cannot_be_written_costs_time_but_no_answer(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VEVALS_CACHE", str(tmp_path / "file"))
    (tmp_path / "weights").write_bytes(b"one")
    assert len(files.digest(tmp_path / "weights")) == 64


def test_a_combined_hash_depends_on_names_and_contents_not_on_the_folder(tmp_path):
    hashes = []
    for name, file, content in (("a", "x", b"1"), ("b", "x", b"1"), ("c", "y", b"1"), ("d", "x", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(content)
        hashes.append(files.combined([tmp_path / name / file]))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert files.combined([]) is None


def test_a_model_folder_is_accepted(folder):
    files.check_folder(folder)
    assert [path.name for path in files.weights(folder)] == ["model.safetensors"]


def test_safetensors_go_before_pickles(folder):
    (folder / "pytorch_model.bin").write_bytes(b"old")
    assert [path.name for path in files.weights(folder)] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert [path.name for path in files.weights(folder)] == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "is empty"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "JSON object"),
        (lambda folder: (folder / "config.json").write_text('{"is_encoder_decoder": true}'), "causal"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}'), "causal"),
    ],
)
def test_a_folder_that_is_no_causal_model_is_named_with_the_reason(folder, change, said):
    change(folder)
    with pytest.raises(ModelError, match=said) as raised:
        files.check_folder(folder)
    assert str(folder) in str(raised.value)


def test_the_chat_template_is_found_wherever_transformers_puts_it(folder):
    assert files.template(folder) is None
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "in its own json"}))
    assert files.template(folder) == "in its own json"
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "by name"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert files.template(folder) == "by name"
    (folder / "chat_template.jinja").write_text("in its own file")
    assert files.template(folder) == "in its own file"


def test_the_parts_of_a_model_change_one_by_one(folder):
    before = files.parts(folder)
    (folder / "tokenizer.json").write_text("{}")
    after = files.parts(folder)
    assert before["tokenizer"] is None
    assert after["tokenizer"] is not None
    assert {key: after[key] for key in ("weights", "config")} == {key: before[key] for key in ("weights", "config")}
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert files.parts(folder)["weights"] != before["weights"]


def test_gguf_metadata_is_read_past_arrays_and_numbers(tmp_path):
    array = struct.pack("<IQ", 8, 2) + _text("a") + _text("b")
    path = gguf(
        tmp_path / "m.gguf",
        ("general.name", 8, _text("tiny")),
        ("tokenizer.ggml.tokens", 9, array),
        ("some.float", 6, struct.pack("<f", 0.5)),
        ("tokenizer.ggml.add_bos_token", 7, b"\x01"),
        ("tokenizer.chat_template", 8, _text("{{ messages }}")),
    )
    found = files.gguf_metadata(path, ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.tokens", "absent"))
    assert found == {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.tokens": ["a", "b"]}
    assert files.template(path) == "{{ messages }}"


@pytest.mark.parametrize("count", [1, 2**40])
def test_a_gguf_header_that_ends_too_early_is_an_error(tmp_path, count):
    with pytest.raises(ModelError, match="header cannot be read"):
        files.gguf_metadata(gguf(tmp_path / "m.gguf", count=count), ())


def test_another_file_with_the_ending_gguf_is_an_error(tmp_path):
    (tmp_path / "m.gguf").write_text("not one")
    with pytest.raises(ModelError, match="not a GGUF file"):
        files.check_gguf(tmp_path / "m.gguf")


def test_a_hub_id_without_a_hub_is_one_sentence(tmp_path):
    code = "from vevals.engine.files import snapshot\nfrom vevals.errors import ModelError\n"
    code += "try: snapshot('some/model', '')\nexcept ModelError as error: print(error)"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "'hf:some/model'" in done.stdout
    assert "local directory" in done.stdout
    assert done.stdout.count("\n") == 1
