"""What may stand after the ? of a local model's name."""

from __future__ import annotations

import pytest

from vevals.errors import ModelError
from vevals.models.hf.settings import Settings


@pytest.mark.parametrize(
    "device",
    ["auto", "cpu", "cuda", "cuda:3", "all", "split", "cpu,cpu", "cpu,cpu,cpu", "cuda:0,cuda:1", "cuda:1,cuda:1"],
)
def test_devices_that_can_be_named(device):
    settings = Settings.parse("m", {"device": device})
    assert settings.device == device
    assert settings.parallel == (device == "all" or "," in device)
    assert settings.shown == "", "the device is not part of the name"


@pytest.mark.parametrize(
    "device",
    ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cpu,cuda:0", "cuda:0,", "cuda:0, cuda:1", "all,cuda:0"],
)
def test_other_devices_are_refused_in_one_sentence(device):
    with pytest.raises(ModelError) as caught:
        Settings.parse("m", {"device": device})
    assert str(caught.value) == (
        f"'hf:m': device is '{device}'; use auto, cpu, cuda, cuda:N, all, split, "
        "or a list of one kind such as cuda:0,cuda:1 or cpu,cpu"
    )


@pytest.mark.parametrize("device", ["auto,auto", "split,split", "CUDA", "cuda:٣", "cuda:0\n"])
def test_odd_spellings_of_devices_are_refused_too(device):
    with pytest.raises(ModelError, match="use auto, cpu, cuda, cuda:N"):
        Settings.parse("m", {"device": device})


def test_unknown_settings_and_values_are_refused():
    with pytest.raises(ModelError, match=r"'hf:m' has no setting 'devices'; it has dtype, device, "):
        Settings.parse("m", {"devices": "cpu"})
    with pytest.raises(ModelError, match=r"'hf:m': dtype is 'int8'; use auto, float32, "):
        Settings.parse("m", {"dtype": "int8"})
    with pytest.raises(ModelError, match=r"batch_tokens is '0'; use a whole number above 0"):
        Settings.parse("m", {"batch_tokens": "0"})


def test_what_can_change_a_score_is_part_of_the_name():
    given = {"dtype": "bfloat16", "batch_tokens": "9", "truncate": "left", "device": "all"}
    assert Settings.parse("m", given).shown == "?dtype=bfloat16&truncate=left"
