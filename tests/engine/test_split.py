"""A model in parts (``device_map``): accelerate places and calls them, and the engine gets the same results."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from vevals.engine.decode import Prompt, answers  # noqa: E402
from vevals.engine.load import Order, loaded  # noqa: E402
from vevals.engine.network import Network  # noqa: E402
from vevals.engine.score import likelihoods  # noqa: E402
from vevals.errors import ModelError  # noqa: E402
from vevals.types import Options  # noqa: E402

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
PARTS = {"model.layers.1": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
FIRST = {"model.embed_tokens": "disk", "model.layers.0": "disk", "model.layers.2": "disk"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=97, max_position_embeddings=128, initializer_range=0.3, **SIZE)
    path = tmp_path_factory.mktemp("split") / "model"
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def networks(folder, tmp_path_factory):
    """The model as a whole, and with its embedding, head and every other layer on the disk until they are called."""
    from transformers import AutoModelForCausalLM

    shape = {"dtype": torch.float32, "local_files_only": True}
    whole = AutoModelForCausalLM.from_pretrained(folder, **shape).eval()
    placed = {"device_map": {**FIRST, **PARTS}, "offload_folder": str(tmp_path_factory.mktemp("offload"))}
    return Network(whole), Network(AutoModelForCausalLM.from_pretrained(folder, **placed, **shape).eval())


def tokens(count, seed):
    draw = random.Random(seed)
    return tuple(draw.randrange(3, 97) for _ in range(count))


def test_inputs_go_where_the_embedding_is_computed(networks):
    assert networks[1].model.device.type == "meta"
    assert networks[1].device.type == "cpu"


def test_scores_are_those_of_the_whole_model(networks):
    pairs = [(tokens(20, 0) + tokens(3, n), tokens(1 + n % 3, 50 + n)) for n in range(9)]
    whole, split = (dict(likelihoods(network, pairs, 256)) for network in networks)
    assert [split[n].logprob for n in range(9)] == pytest.approx([whole[n].logprob for n in range(9)], abs=2e-4)
    assert networks[0].level == networks[1].level


def test_texts_are_those_of_the_whole_model(networks):
    prompts = [Prompt(tokens(5 + n, n), Options(max_tokens=8), frozenset({2}), f"{n}") for n in range(4)]
    whole, split = (
        {n: found.text for n, found in answers(network, prompts, lambda ids: str(list(ids)), 256)}
        for network in networks
    )
    assert whole == split


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_without_gpus_there_is_nothing_to_split_over(folder):
    with pytest.raises(ModelError, match="'m': device is 'split', which needs GPUs, and none is visible"):
        loaded(Order("m", folder, None, "float32", "split"), None)
