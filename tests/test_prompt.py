"""Templates see the columns, and only the columns."""

from __future__ import annotations

import pytest

from vevals.errors import BenchmarkError
from vevals.prompt import check_template, conversation, render
from vevals.types import Message, Sample

SAMPLE = Sample("1", "What?", ("b",), ("a thing", "b"), fields={"text": "{{ input }}", "tags": ["x", "y"]})


def test_columns_choices_and_loops_are_rendered() -> None:
    assert render("{{ input }} {{ choices[1] }}\n", SAMPLE) == "What? b"
    assert render("{{ choices }}", SAMPLE) == "A. a thing\nB. b"
    assert render("{% for tag in tags %}<{{ tag }}>{% endfor %}", SAMPLE) == "<x><y>"


def test_data_is_never_a_template() -> None:
    assert render("{{ text }}", SAMPLE) == "{{ input }}"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ choices.__class__.__subclasses__() }}",
        "{{ render.__globals__ }}",
        "{{ tags.append('z') }}",
    ],
)
def test_a_template_cannot_reach_python_or_change_the_row(attack: str) -> None:
    with pytest.raises(BenchmarkError, match="sample 1: the prompt cannot be rendered"):
        render(attack, SAMPLE)
    assert SAMPLE.fields["tags"] == ["x", "y"]


def test_an_undefined_name_is_found_before_anything_is_rendered() -> None:
    assert check_template("{{ input }} {{ tags }}", ["input", "tags"]) is None
    assert "'tga', which no column has; did you mean 'tag'?" in str(check_template("{{ tga }}", ["input", "tag"]))
    assert "its line 2" in str(check_template("fine\n{% if %}", ["input"]))


def test_a_conversation_has_system_shots_and_question() -> None:
    shot = Sample("s", "Earlier?", ("a thing",))
    assert conversation("{{ input }}", SAMPLE, "Be brief.", [(shot, "a thing")]) == (
        Message("system", "Be brief."),
        Message("user", "Earlier?"),
        Message("assistant", "a thing"),
        Message("user", "What?"),
    )
