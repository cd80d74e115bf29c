"""Batches, halving and rows: every index once, every token where its own past is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vevals.engine.plan import Limits, Shape, Work, batches, plan
from vevals.engine.trie import Trie

lengths = st.lists(st.integers(1, 60), max_size=40)
limits = st.builds(
    Limits,
    budget_tokens=st.integers(1, 200),
    max_rows=st.none() | st.integers(1, 8),
    alone_above=st.none() | st.integers(1, 60),
    same_length=st.booleans(),
)


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


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple)
pairs = st.lists(st.tuples(tokens, st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)), max_size=14)
shapes = st.builds(
    Shape, trees=st.booleans(), prefixes=st.booleans(), capacity=st.integers(1, 15), overhead=st.integers(1, 9)
)


def trie_of(pairs):
    """The trie, and what each edge is: (all tokens before, token)."""
    trie, edges = Trie(), {}
    for number, (context, ending) in enumerate(pairs):
        for place, edge in enumerate(trie.add(context, ending, number // 2)):
            edges[edge] = (context + ending[:place], ending[place])
    return trie, edges


def planned(trie, shape):
    return list(plan(trie, shape))


def laid_out(groups):
    """Every row with the tokens of the prefix in front of it."""
    before, found = [], []
    for group in groups:
        prefix = before[group.parent] if group.parent is not None else ()
        if group.run is not None:
            found.append((prefix, group.run))
            prefix += group.run.tokens
        before.append(prefix)
        found += [(prefix, row) for row in group.rows]
    return found


def past(prefix, row, index):
    """The tokens that ``index`` sees, itself included."""
    return prefix + tuple(row.tokens[other] for other in range(index + 1) if index < row.ends[other])


@given(pairs, shapes)
def test_every_edge_is_read_once_where_the_past_is_its_own(pairs, shape):
    trie, edges = trie_of(pairs)
    seen = []
    for prefix, row in laid_out(list(plan(trie, shape))):
        for index in range(len(row.tokens)):
            assert row.positions[index] == len(past(prefix, row, index)) - 1
        for index, token, edge in row.reads:
            assert edges[edge] == (past(prefix, row, index), token)
            seen.append(edge)
    assert sorted(seen) == sorted(edges)


@given(pairs, shapes)
def test_rows_are_what_their_shape_allows(pairs, shape):
    groups = planned(trie_of(pairs)[0], shape)
    assert all(group.run is None or not group.run.branches for group in groups)
    assert shape.prefixes or len(groups) == 1
    assert shape.trees or not any(row.branches for group in groups for row in group.rows)


@given(pairs, st.integers(1, 15), st.integers(1, 9))
def test_a_tree_of_several_samples_keeps_to_its_capacity(pairs, capacity, overhead):
    shape = Shape(True, True, capacity, overhead)
    numbered = list(enumerate(pairs))
    for prefix, row in laid_out(planned(trie_of(pairs)[0], shape)):
        paths = {past(prefix, row, index) for index in range(len(row.tokens))}
        owners = {number // 2 for number, (context, ending) in numbered if context + ending[:-1] in paths}
        assert len(row.tokens) <= capacity or not row.branches or len(owners) <= 1


@given(pairs, shapes)
def test_only_ancestors_of_a_group_must_be_kept(pairs, shape):
    groups = planned(trie_of(pairs)[0], shape)
    path = []
    for number, group in enumerate(groups):
        while path and path[-1] != group.parent:
            path.pop()
        assert number == 0 or path
        path.append(number)


@given(pairs)
def test_a_row_with_room_for_all_holds_each_distinct_prefix_once(pairs):
    groups = planned(trie_of(pairs)[0], Shape(True, True, 10_000))
    whole = [context + ending[:-1] for context, ending in pairs]
    prefixes = {one[:size] for one in whole for size in range(1, len(one) + 1)}
    assert sum(len(row.tokens) for group in groups for row in group.rows) == len(prefixes)
    assert len(groups) == 1


def test_a_shared_start_is_read_once_where_that_saves_more_than_a_call():
    start = tuple(range(100, 200))
    pairs = [((*start, number), (1,)) for number in range(50)]
    first, group = planned(trie_of(pairs)[0], Shape(True, True, 110, 64))
    assert (first.rows, group.run.tokens) == ([], start)
    assert sum(len(row.tokens) for row in group.rows) == 50
    (alone,) = planned(trie_of(pairs)[0], Shape(True, True, 110, 10_000))
    assert sum(len(row.tokens) for row in alone.rows) == 50 + 100 * len(alone.rows)


def test_one_token_choices_cost_no_token_beside_the_context():
    (group,) = planned(trie_of([((7, 8, 9), (choice,)) for choice in (1, 2, 3)])[0], Shape(True, True))
    (row,) = group.rows
    assert row.tokens == (7, 8, 9)
    assert sorted((index, token) for index, token, _ in row.reads) == [(2, 1), (2, 2), (2, 3)]


def test_a_trie_deeper_than_the_stack_is_planned():
    context = tuple(range(3000))
    pairs = [(context[: size + 1], (5000,)) for size in range(3000)]
    groups = planned(trie_of(pairs)[0], Shape(True, True, 100, 64))
    assert sum(len(row.reads) for _, row in laid_out(groups)) == 3000
