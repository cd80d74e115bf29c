"""Stop strings and the order of admission, without a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vevals.engine.admission import OVERHEAD, ordered, shared
from vevals.engine.stops import Pieces, Stops
from vevals.engine.writing import Prompt, writings
from vevals.types import FinishReason, Options

BYTES = ["a", "b", " c", "stop", "\n", "é", "##", "", " the"]
RAW = [*(piece.encode() for piece in BYTES), *(bytes([byte]) for byte in "現é".encode())]


def text(tokens):
    """Like a byte-level tokenizer: parts of characters are replaced, and a text's first space is dropped."""
    return b"".join(RAW[token] for token in tokens).decode(errors="replace").removeprefix(" ")


def prompts(*lines, max_tokens=4):
    return [Prompt(tuple(line), Options(max_tokens=max_tokens), frozenset(), str(line)) for line in lines]


def test_a_token_is_read_behind_another_so_that_its_space_counts():
    pieces = Pieces(text)
    assert pieces[2] == " c"
    assert pieces[7] == ""
    assert pieces[8] == " the"


def test_a_part_of_a_character_is_unknown():
    pieces = Pieces(text)
    assert pieces[0] == "a"
    assert pieces[9] is None
    assert Stops(("現",), pieces).marks(9)


def test_without_a_visible_token_so_far_nothing_is_known():
    stops = Stops(("x",), Pieces(text))
    assert stops.marks(4)
    assert not stops.marks(0)
    assert not stops.marks(4)


def test_tokens_that_cannot_complete_a_stop_are_never_decoded_again():
    calls = []
    stops = Stops(("x", "ab"), Pieces(lambda tokens: calls.append(tokens) or text(tokens)))
    answer = []
    for token in (0, 2, 3, 0, 2, 3, 0, 2, 3):
        answer.append(token)
        assert stops.cut(answer) is None
    assert max(map(len, calls)) <= 2
    assert len(calls) == 4


def test_no_stops_no_looks():
    stops = Stops((), Pieces(lambda tokens: 1 / 0))
    assert not stops.marks(3)
    assert stops.cut([3]) is None


@given(st.lists(st.integers(0, len(RAW) - 1), min_size=1, max_size=30), st.lists(st.text("abcé現 \nsto", min_size=1)))
def test_an_answer_ends_at_the_first_token_after_which_its_text_has_a_stop(tokens, stops):
    table = Stops(stops, Pieces(text))
    for count in range(1, len(tokens) + 1):
        whole = text(tokens[:count])
        places = [whole.find(stop) for stop in stops if stop in whole]
        found = table.cut(tokens[:count])
        assert found == (whole[: min(places)] if places else None)
        if places:
            break


def test_rows_say_how_they_ended():
    options = Options(max_tokens=3, stop=("b",))
    asked = [Prompt((1,), options, frozenset({7}), "") for _ in range(3)]
    rows = writings(asked, text)
    for row, tokens in zip(rows, [(0, 7), (0, 2, 1), (0, 0, 0)], strict=True):
        for token in tokens:
            assert row.live
            row.add(token, 0.5)
    found = [(row.answer.text, row.answer.tokens, row.answer.finish, row.answer.seconds) for row in rows]
    assert found == [
        ("a", 2, FinishReason.stop, 1.0),
        ("a c", 3, FinishReason.stop, 1.5),
        ("aaa", 3, FinishReason.length, 1.5),
    ]


def test_prompts_that_begin_alike_share_what_is_worth_a_call():
    block, other = tuple(range(50)), tuple(range(100, 150))
    lines = [(*block, 200 + number) for number in range(4)] + [(*other, 300), (*other, 301), (7, 8)]
    assert shared(lines) == {(*block, 200 + number): 50 for number in range(4)}


def test_one_prompt_may_be_the_start_of_another():
    lines = [tuple(range(length)) for length in range(70, 75)]
    assert set(shared(lines).values()) == {69}


def best(lines):
    """The most that one level of groups of neighbours can save, by trying all."""
    lines = sorted(lines)
    saved = [0]
    for right in range(1, len(lines) + 1):
        options = [saved[right - 1]]
        for left in range(right - 1):
            depth = min(len(line) - 1 for line in lines[left:right])
            while len({line[:depth] for line in lines[left:right]}) > 1:
                depth -= 1
            options.append(saved[left] + (right - left - 1) * depth - OVERHEAD)
        saved.append(max(options))
    return saved[-1]


LINES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 90), st.integers(0, 3)), max_size=9)


@given(LINES)
def test_groups_save_as_much_as_any_one_level_of_groups(shapes):
    lines = {(*[one] * 40, *[other] * 30, *[5] * size, last) for one, other, size, last in shapes}
    leads = shared(lines)
    groups = {line[:lead] for line, lead in leads.items()}
    saved = sum(leads.values()) - sum(map(len, groups)) - OVERHEAD * len(groups)
    assert saved == best(lines)
    assert all(lead < len(line) for line, lead in leads.items())


def test_equal_prompts_and_groups_stay_together_longest_first():
    block = tuple(range(100))
    lines = [(1, 2), (*block, 7), (3,), (*block, 8), (1, 2), tuple(range(200, 500)), (*block, 7)]
    rows = ordered(writings(prompts(*lines), text))
    assert [row.index for row in rows] == [5, 3, 1, 6, 0, 4, 2]
    assert [row.lead for row in rows] == [0, 100, 100, 100, 0, 0, 0]
