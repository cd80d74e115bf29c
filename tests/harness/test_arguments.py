"""What becomes of lm-eval's model_args and gen_kwargs."""

from __future__ import annotations

import pytest

from vevals.errors import ModelError
from vevals.harness.arguments import cut, merged, options, spec
from vevals.types import Options


@pytest.mark.parametrize(
    ("pretrained", "given", "name"),
    [
        ("org/model", {}, "hf:org/model?truncate=left"),
        ("/data/model", {"dtype": "float32"}, "hf:/data/model?dtype=float32&truncate=left"),
        ("smollm2", {"device": "cpu"}, "smollm2?device=cpu&truncate=left"),
        (
            "hf:org/model?dtype=float16",
            {"batch_tokens": 512},
            "hf:org/model?dtype=float16&batch_tokens=512&truncate=left",
        ),
        ("org/model", {"trust_remote_code": True}, "hf:org/model?trust_remote_code=true&truncate=left"),
        ("org/model", {"truncate": "none"}, "hf:org/model?truncate=none"),
        ("smollm2?truncate=none", {}, "smollm2?truncate=none"),
        ("replay:out.jsonl?text=reply", {}, "replay:out.jsonl?text=reply"),
        ("fake:empty", {}, "fake:empty"),
    ],
)
def test_model_args_become_a_vevals_name(pretrained, given, name):
    assert spec(pretrained, given) == name


def test_a_dtype_of_torch_is_written_by_its_name():
    torch = pytest.importorskip("torch")
    assert spec("org/model", {"dtype": torch.bfloat16}) == "hf:org/model?dtype=bfloat16&truncate=left"


def test_a_folder_is_a_folder_even_when_it_is_called_like_an_alias(workplace):
    (workplace / "smollm2").mkdir()
    assert spec("smollm2", {}) == "hf:smollm2?truncate=left"


def test_an_unknown_argument_is_refused_with_those_that_there_are():
    with pytest.raises(ModelError, match="no argument 'parallelize'; it has pretrained, dtype, device"):
        spec("org/model", {"parallelize": True})


def test_an_argument_that_the_name_has_already_is_refused():
    with pytest.raises(ModelError, match=r"'dtype' is in pretrained=.* already"):
        spec("hf:org/model?dtype=float16", {"dtype": "float32"})


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


RUN = {"device": "cuda:0", "batch_size": 1, "max_batch_size": None}


def test_the_device_that_lm_eval_always_passes_is_left_out_without_a_gpu(no_gpu):
    assert merged({"pretrained": "org/model"}, RUN) == {"pretrained": "org/model", "batch_size": 1}


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_device_that_somebody_named_is_kept(no_gpu, device):
    assert merged({"pretrained": "org/model"}, {"device": device})["device"] == device
    assert merged({"pretrained": "org/model", "device": device}, RUN)["device"] == device


@pytest.mark.parametrize("pretrained", ["replay:out.jsonl", "hf:org/model?device=cpu"])
def test_the_device_of_the_run_is_not_added_where_it_means_nothing_or_is_known(pretrained):
    assert "device" not in merged({"pretrained": pretrained}, {"device": "cuda"})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Options()),
        ({"until": "\n"}, Options(stop=("\n",))),
        ({"until": ["\n\n", ".", "."], "max_gen_toks": 32}, Options(max_tokens=32, stop=("\n\n", "."))),
        ({"until": None, "max_new_tokens": "16"}, Options(max_tokens=16)),
        ({"do_sample": False, "temperature": 1, "top_p": 0.9, "top_k": 50}, Options()),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.9}, Options(temperature=0.7, top_p=0.9)),
        ({"temperature": 0.7, "top_k": 0}, Options(temperature=0.7)),
        ({"num_beams": 1, "repetition_penalty": 1.0}, Options()),
        ({"max_gen_toks": 8, "max_tokens": 8}, Options(max_tokens=8)),
    ],
)
def test_generation_arguments_mean_what_they_mean_in_lm_eval(given, wanted):
    assert options(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_beams": 4}, "num_beams is 4"),
        ({"top_k": 5, "temperature": 0.5}, "top_k is 5"),
        ({"repetition_penalty": 1.2}, "repetition_penalty is 1.2"),
        ({"min_p": 0.1}, "no 'min_p'"),
        ({"max_length": 100}, "no 'max_length'"),
        ({"do_sample": True}, "temperature is 0 or missing"),
        ({"max_gen_toks": 8, "max_tokens": 9}, "max_gen_toks=8 and max_tokens=9"),
        ({"until": ["\n", ""]}, "until has ''"),
        ({"until": [3]}, "until has 3"),
    ],
)
def test_generation_arguments_that_vevals_cannot_honour_are_refused(given, message):
    with pytest.raises(ModelError, match=message):
        options(given)


@pytest.mark.parametrize(
    ("stops", "left"),
    [((), "one, two. three"), ((".", ","), "one"), (("two. ", "e"), "on"), (("four",), "one, two. three")],
)
def test_a_text_is_cut_before_the_earliest_stop(stops, left):
    assert cut("one, two. three", stops) == left
