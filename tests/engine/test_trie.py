"""The tree of tokens: every shared prefix once, every reading once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vevals.engine.trie import MIXED, Trie, common, walk

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple)
pairs = st.lists(st.tuples(tokens, tokens), max_size=14)


@given(pairs)
def test_every_distinct_prefix_is_there_once(pairs):
    trie = Trie()
    for context, ending in pairs:
        trie.add(context, ending, 0)
    trie.measure()
    inputs = [context + ending[:-1] for context, ending in pairs]
    assert trie.root.size == len({one[:size] for one in inputs for size in range(1, len(one) + 1)})


@given(pairs)
def test_equal_readings_are_one_edge_and_others_are_not(pairs):
    trie, edges = Trie(), {}
    for context, ending in pairs:
        for place, edge in enumerate(trie.add(context, ending, 0)):
            assert edges.setdefault((context + ending[:place], ending[place]), edge) == edge
    assert sorted(edges.values()) == list(range(trie.edges))


@given(pairs)
def test_what_is_asked_stays_at_its_place_when_runs_are_split(pairs):
    trie, edges = Trie(), {}
    for context, ending in pairs:
        for place, edge in enumerate(trie.add(context, ending, 0)):
            edges[edge] = (context + ending[:place], ending[place])
    before = {id(trie.root): ()}
    for node in walk(trie.root):
        whole = before[id(node)] + node.run
        assert node.start == len(whole) - len(node.run)
        for (offset, token), edge in node.asked.items():
            assert edges.pop(edge) == (whole[: node.start + offset + 1], token)
        before.update({id(child): whole for child in node.children.values()})
    assert not edges


def test_a_node_knows_whether_several_samples_share_it():
    trie = Trie()
    trie.add((1, 2, 3), (4,), owner=0)
    trie.add((1, 2, 5), (4,), owner=1)
    shared, *own = [node for node in walk(trie.root) if node.run]
    assert (shared.run, shared.owner) == ((1, 2), MIXED)
    assert {node.run: node.owner for node in own} == {(3,): 0, (5,): 1}


@given(st.lists(st.integers(0, 1), max_size=9).map(tuple), st.lists(st.integers(0, 1), max_size=9).map(tuple))
def test_common_counts_the_equal_start(one, other):
    found = common(one, other)
    assert one[:found] == other[:found]
    assert found == min(len(one), len(other)) or one[found] != other[found]
