"""Batches, halving and rows: every index once, every token where its own past is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vevals.engine.plan import Limits, Row, Work, batches, row, rows

lengths = st.lists(st.integers(1, 60), max_size=40)
limits = st.builds(
    Limits,
    budget_tokens=st.integers(1, 200),
    max_rows=st.none() | st.integers(1, 8),
    alone_above=st.none() | st.integers(1, 60),
    same_length=st.booleans(),
)
contexts = st.lists(st.integers(0, 4), min_size=1, max_size=6).map(tuple)
endings = st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12)


@given(lengths, limits)
def test_every_index_is_in_one_batch(lengths, limits):
    assert sorted(index for batch in batches(lengths, limits) for index in batch) == list(range(len(lengths)))


@given(lengths, limits)
def test_a_batch_keeps_to_its_limits(lengths, limits):
    for batch in batches(lengths, limits):
        sizes = [lengths[index] for index in batch]
        assert len(batch) == 1 or max(sizes) * len(batch) <= limits.budget_tokens
        assert limits.max_rows is None or len(batch) <= limits.max_rows
        assert not limits.same_length or len(set(sizes)) == 1
        assert limits.alone_above is None or len(batch) == 1 or max(sizes) <= limits.alone_above


@given(lengths, limits)
def test_the_longest_comes_first(lengths, limits):
    order = [lengths[index] for batch in batches(lengths, limits) for index in batch]
    assert order == sorted(order, reverse=True)


def test_rows_of_equal_length_keep_their_order():
    assert batches([3, 3, 3], Limits(6)) == [(0, 1), (2,)]


@given(lengths, limits, st.integers(0, 150))
def test_halving_answers_or_gives_up_every_index_once(lengths, limits, memory):
    work = Work(batches(lengths, limits), lengths)
    done, hopeless = [], []
    for batch in work:
        if max(lengths[index] for index in batch) * len(batch) <= memory:
            done += batch
        elif (index := work.failed(batch)) is not None:
            hopeless.append(index)
    assert sorted(done + hopeless) == list(range(len(lengths)))
    assert all(lengths[index] > memory for index in hopeless)
    assert all(lengths[index] <= memory for index in done)


def test_a_batch_of_a_size_that_failed_is_not_tried_again():
    work = Work([(0, 1, 2, 3), (4, 5, 6, 7)], [10] * 8)
    tried = []
    for batch in work:
        tried.append(batch)
        if len(batch) > 2:
            assert work.failed(batch) is None
    assert tried == [(0, 1, 2, 3), (0, 1), (2, 3), (4, 5), (6, 7)]


def test_a_single_row_that_fails_does_not_shrink_the_others():
    work = Work([(0,), (1, 2, 3)], [100, 30, 30, 30])
    tried = []
    for batch in work:
        tried.append(batch)
        if 0 in batch:
            assert work.failed(batch) == 0
    assert tried == [(0,), (1, 2, 3)]


def test_a_batch_put_back_comes_next():
    work = Work([(0, 1), (2,)], [1, 1, 1])
    seen = []
    for batch in work:
        seen.append(batch)
        if batch == (0, 1):
            work.again((1,))
    assert seen == [(0, 1), (1,), (2,)]


def _past(row: Row, index: int) -> list[int]:
    """The tokens that ``index`` sees, in order of position."""
    seen = [other for other in range(index + 1) if index < row.ends[other]]
    assert [row.positions[other] for other in seen] == list(range(len(seen)))
    return [row.tokens[other] for other in seen]


@given(contexts, endings, st.none() | st.integers(1, 8))
def test_every_token_is_read_where_the_past_is_its_own(context, endings, capacity):
    found = rows(context, endings, capacity)
    assert sorted(ending for row in found for ending in row.endings) == sorted(endings)
    for part in found:
        for ending, path in zip(part.endings, part.edges, strict=True):
            assert tuple(token for _, token in path) == ending
            for done, (parent, _) in enumerate(path):
                assert _past(part, parent) == [*context, *ending[:done]]


@given(contexts, endings)
def test_chains_need_no_mask_and_no_chain_is_the_start_of_another(context, endings):
    found = rows(context, endings, None)
    assert not any(part.branches for part in found)
    chains = [part.tokens for part in found]
    assert not any(one != other and one == other[: len(one)] for one in chains for other in chains)
    assert len(set(chains)) == len(chains)


@given(contexts, endings)
def test_a_tree_holds_each_distinct_prefix_once(context, endings):
    prefixes = {ending[:size] for ending in endings for size in range(1, len(ending))}
    tree = row(context, endings)
    assert len(tree.tokens) == len(context) + len(prefixes)
    assert tree.depth == len(context) + max(len(ending) - 1 for ending in endings)


@given(contexts, endings, st.integers(1, 8))
def test_trees_keep_to_their_capacity(context, endings, capacity):
    for part in rows(context, endings, capacity):
        assert len(part.endings) == 1 or len(part.tokens) - len(context) <= capacity


@given(contexts, endings)
def test_halves_are_shorter_and_hold_all_endings(context, endings):
    whole = row(context, endings)
    halves = whole.halved()
    if halves is not None:
        assert sorted(halves[0].endings + halves[1].endings) == sorted(endings)
        assert max(len(half.tokens) for half in halves) < len(whole.tokens)


@pytest.mark.parametrize("endings", [[(1,)], [(1,), (2,), (3,)], [(1, 2, 3)]])
def test_a_row_that_halving_would_not_shorten_is_not_halved(endings):
    assert row((0,), endings).halved() is None


def test_one_token_choices_cost_no_token_beside_the_context():
    (only,) = rows((7, 8, 9), [(1,), (2,), (3,)], None)
    assert only.tokens == (7, 8, 9)
    assert only.edges == (((2, 1),), ((2, 2),), ((2, 3),))
