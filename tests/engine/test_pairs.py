"""The pair rule: tokens of contexts and continuations, from whole texts or from the ends of the contexts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vevals.engine import pairs as module
from vevals.engine.pairs import Question, encoded


def spell(texts, special):
    """A toy tokenizer: pairs of letters inside a word merge, a space goes to the word after it, 1 is BOS."""
    return [[1] * special + _spell(text) for text in texts]


def _spell(text):
    found, place = [], 0
    while place < len(text):
        size = 2 if text[place : place + 2].strip() and place + 1 < len(text) and text[place + 1] != " " else 1
        found.append(sum(ord(letter) * 7**power for power, letter in enumerate(text[place : place + size])) + 2)
        place += size
    return found


def test_the_continuation_is_what_the_whole_text_has_after_the_context():
    ((found,),) = encoded([Question("ab", ("cd",), True)], spell, 1)
    assert found == ((1, *_spell("ab")), tuple(_spell("cd")), 0)


def test_a_merge_across_the_border_is_cut_where_the_context_ends():
    ((found,),) = encoded([Question("abc", ("def",), False)], spell, 1)
    context, ending, _ = found
    assert list(context) == _spell("abc")
    assert list(ending) == _spell("abcdef")[len(context) :]
    assert [*context, *ending] != _spell("abcdef")


def test_white_space_at_the_end_of_the_context_goes_to_the_continuation():
    one, other = encoded([Question("ab ", ("cd",), False), Question("ab", (" cd",), False)], spell, 1)
    assert one[0][:2] == other[0][:2] == (tuple(_spell("ab")), tuple(_spell(" cd")))


def test_white_space_that_stays_a_token_of_its_own_is_counted():
    split = {"q": [5], "q\n": [5, 6], "q\nyes": [5, 6, 7, 8], "q\n\n": [5, 9]}
    question = Question("q\n", ("yes", "\n"), False)
    ((yes, newline),) = encoded([question], lambda texts, special: [split[text] for text in texts], None)
    assert yes == ((5,), (6, 7, 8), 1)
    assert newline == ((5,), (9,), 0)


@pytest.mark.parametrize("context", ["", "  ", "\n"])
def test_a_context_without_text_is_the_first_token_of_a_text(context):
    ((found,),) = encoded([Question(context, ("ab",), True)], spell, 1)
    assert found == ((1,), tuple(_spell(context + "ab")), 0)


def test_a_continuation_that_brings_the_first_token_along_keeps_it():
    ((found,),) = encoded([Question("", ("xab",), True)], lambda texts, special: [[1, 4, 5] for _ in texts], 1)
    assert found == ((1,), (4, 5), 0)


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3))))
def test_encoding_together_is_encoding_one_by_one(items):
    questions = [Question(context, tuple(endings), len(context) % 2 == 0) for context, endings in items]
    assert encoded(questions, spell, 1) == [encoded([question], spell, 1)[0] for question in questions]


def words(text):
    """Where the words of the toy tokenizer begin, the last one first: at spaces."""
    return [place for place in reversed(range(1, len(text))) if text[place] == " "][1:4]


def counted(encode):
    seen = []

    def counting(texts, special):
        seen.append(sum(map(len, texts)))
        return encode(texts, special)

    return counting, seen


def questions(count, choices):
    draw = random.Random(0)
    shared = " ".join(draw.choice(["red", "green", "blue"]) for _ in range(60))
    contexts = [f"{shared} {draw.choice(['one', 'two', 'three'])} number {number} is it:" for number in range(count)]
    return [Question(context, tuple(f" {word} now" for word in choices), True) for context in contexts]


def test_many_choices_are_encoded_with_the_end_of_their_context_only(monkeypatch):
    asked = questions(40, [f"choice{number}" for number in range(30)])
    want = encoded(asked, spell, 1)
    monkeypatch.setattr(module, "MANY_CHARACTERS", 1000)
    encode, seen = counted(spell)
    assert encoded(asked, encode, 1, words) == want
    everything = sum(len(one.context) * len(one.continuations) for one in asked)
    assert sum(seen) < everything / 4


def test_a_tokenizer_that_looks_further_back_is_found_out(monkeypatch):
    def odd(texts, special):
        return [[1] * special + _spell(text) + [9 + len(text) % 2] for text in texts]

    def longer(texts, special):
        """Every token depends on how long the whole text is."""
        return [[one + len(text) for one in _spell(text)] for text in texts]

    asked = questions(10, ["yes", "no"])
    monkeypatch.setattr(module, "MANY_CHARACTERS", 100)
    for encode in (odd, longer):
        assert encoded(asked, encode, 1, words) == encoded(asked, encode, 1)


def test_a_sample_of_pairs_that_disagrees_undoes_the_short_way(monkeypatch):
    """A tokenizer that writes a text with 'no' at its end otherwise, but only behind a long text."""

    def sly(texts, special):
        return [[1] * special + _spell(text) + [7] * (text.endswith("no now") and len(text) > 100) for text in texts]

    asked = questions(10, ["yes", "no"])
    monkeypatch.setattr(module, "MANY_CHARACTERS", 100)
    assert encoded(asked, sly, 1, words) == encoded(asked, sly, 1)


def test_contexts_that_cannot_be_cut_take_the_long_way_and_stay_in_their_place(monkeypatch):
    asked = questions(6, ["yes", "no"])
    asked[2:2] = [Question("", ("ab",), True), Question("word", (" cd", "e"), False), Question("ab ", ("cd",), False)]
    monkeypatch.setattr(module, "MANY_CHARACTERS", 100)
    assert encoded(asked, spell, 1, words) == encoded(asked, spell, 1)
