"""Requests dealt out to workers: each once, groups together, loads level, batches full."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vevals.engine.handout import NEW_TOKEN, Job, bundles, job, least_cost
from vevals.types import Message, Options, Request

TEXTS = st.lists(st.text("ab", max_size=5), min_size=1, max_size=3).map(tuple)
JOBS = st.lists(st.builds(Job, TEXTS, st.integers(0, 30).map(float)), max_size=60)
LONG = st.tuples(st.sampled_from(["x" * 40, "y" * 25, "y" * 25 + "z" * 10, ""]), st.text("abc", max_size=12))
GROUPED = st.lists(st.builds(Job, LONG, st.integers(0, 20).map(float)), min_size=1, max_size=120)
WORKERS = st.integers(1, 9)
LEAST = st.sampled_from([0.0, 5.0, 100.0, 1e6])


def joined(one):
    return "".join(one.texts)


def cost(jobs, beyond=0):
    """What jobs cost together, by hand: every distinct start of a text once, ``beyond`` the one that all have."""
    starts = {text[:end] for text in map(joined, jobs) for end in range(beyond + 1, len(text) + 1)}
    return len(starts) + sum(one.rest + 1 for one in jobs)


def everywhere(jobs):
    """Length of the start that all texts have."""
    first, last = (edge(map(joined, jobs)) for edge in (min, max))
    unlike = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(unlike, len(first)) if len(jobs) > 1 else 0


def loads(jobs, workers, dealt):
    """What each worker has read in the end, if whoever is free takes the next bundle."""
    beyond = everywhere(jobs)
    free = [0.0] * workers
    for bundle in dealt:
        heapq.heappush(free, heapq.heappop(free) + cost([jobs[index] for index in bundle], beyond))
    return sorted(free)


@given(JOBS, WORKERS, LEAST)
def test_every_request_is_in_one_bundle(jobs, workers, least):
    dealt = bundles(jobs, workers, least)
    assert sorted(index for bundle in dealt for index in bundle) == list(range(len(jobs)))
    assert all(bundle == tuple(sorted(bundle)) != () for bundle in dealt)


@given(GROUPED, WORKERS, LEAST)
def test_the_costliest_bundle_comes_first(jobs, workers, least):
    beyond = everywhere(jobs)
    costs = [cost([jobs[index] for index in bundle], beyond) for bundle in bundles(jobs, workers, least)]
    # within a bundle two parts may share a start that the plan counted twice
    assert all(later <= earlier + 2 * 40 for earlier, later in pairwise(costs))


@given(GROUPED, WORKERS, LEAST)
def test_requests_with_a_common_start_stay_together_unless_they_are_a_quarter_of_the_mean_load(jobs, workers, least):
    beyond = everywhere(jobs)
    place = {index: number for number, bundle in enumerate(bundles(jobs, workers, least)) for index in bundle}
    limit = cost(jobs, beyond) / workers / 4
    starts = {joined(one)[:end] for one in jobs for end in range(beyond + 1, len(joined(one)) + 1)}
    for start in starts:
        group = [index for index, one in enumerate(jobs) if joined(one).startswith(start)]
        if cost([jobs[index] for index in group], beyond) <= limit:
            assert len({place[index] for index in group}) == 1


@given(st.lists(st.builds(Job, TEXTS, st.integers(0, 30).map(float)), min_size=1, max_size=300), WORKERS)
def test_loads_are_level_up_to_a_quarter_of_the_mean_and_one_request(jobs, workers):
    for least in (0.0, 1e6):
        found = loads(jobs, workers, bundles(jobs, workers, least))
        alone = max(one.cost for one in jobs)
        assert found[-1] <= 1.25 * sum(found) / workers + alone


def test_many_equal_requests_are_dealt_out_within_a_twentieth():
    jobs = [Job((f"question {number}",), 100.0) for number in range(1000)]
    for workers in (2, 3, 8):
        found = loads(jobs, workers, bundles(jobs, workers))
        assert found[-1] <= 1.05 * sum(found) / workers


def test_the_work_is_hardly_more_than_on_one_worker():
    subjects = [f"{number:02} " + "shots " * 400 for number in range(57)]
    jobs = [Job((subject + f"question {number} ",), 60.0) for subject in subjects for number in range(40)]
    dealt = bundles(jobs, 4, 16384.0)
    assert sum(cost_quickly(jobs, bundle) for bundle in dealt) <= 1.02 * cost_quickly(jobs, range(len(jobs)))


def cost_quickly(jobs, indices):
    """``cost`` for texts that share what stands before 'question' or nothing."""
    texts = [jobs[index].texts[0].split("question") for index in indices]
    return sum(len(head) for head in {head for head, _ in texts}) + sum(len(tail) + 69 for _, tail in texts)


def test_one_block_before_all_requests_is_cut_and_a_long_one_goes_out_once_a_worker():
    short = [Job(("shots " * 20 + f"question {number}",), 50.0) for number in range(400)]
    assert len(bundles(short, 4)) > 8
    long = [Job(("shots " * 2000 + f"question {number}",), 50.0) for number in range(400)]
    dealt = bundles(long, 4)
    assert len(dealt) == 4
    assert all(97 <= len(bundle) <= 103 for bundle in dealt)


def test_bundles_are_not_made_smaller_than_what_fills_a_batch():
    jobs = [job(Request(str(number), "generate", (Message("user", f"{number}"),)), "generate") for number in range(500)]
    for device, rows in (("cpu", 32), ("cuda", 256)):
        dealt = bundles(jobs, 2, least_cost(jobs, "generate", device))
        assert min(map(len, dealt)) >= min(rows, 250) * 0.95
    assert len(dealt) == 2


def test_few_requests_still_reach_every_worker_and_none_is_empty():
    jobs = [Job((f"{number}",), 10.0) for number in range(3)]
    assert len(bundles(jobs, 8, 1e9)) == 3
    assert bundles([], 4) == []


def test_equal_requests_are_a_group_like_any_other():
    assert sorted(map(len, bundles([Job(("same",), 10.0)] * 100, 2, 1e9))) == [50, 50]


@pytest.mark.parametrize(
    ("kind", "cost"),
    [("generate", 1 + 6 + 7 * NEW_TOKEN), ("loglikelihood", 1 + 6 + 5), ("rolling", 1 + 6), ("classify", 1 + 6)],
)
def test_what_a_request_costs(kind, cost):
    messages = (Message("user", "four"), Message("system", "me"))
    found = job(Request("a", kind, messages, Options(max_tokens=7), ("yes", "no")), kind)
    assert found.cost == cost
    assert found.texts == (("me", "four") if kind in ("generate", "loglikelihood") else ())


def test_a_request_with_a_prompt_for_each_choice_shares_the_first_prompt():
    found = job(Request("a", "loglikelihood", (), choices=("x", "y"), prompts=("one", "three")), "loglikelihood")
    assert (found.texts, found.rest) == (("one",), 5 + 2)


def test_a_negative_number_of_tokens_costs_nothing():
    assert job(Request("a", "generate", (), Options(max_tokens=-5)), "generate").cost == 1


def test_ten_thousand_nested_prompts_are_planned_in_time():
    jobs = [Job(("a" * number,)) for number in range(10_000)]
    dealt = bundles(jobs, 8)
    assert sum(map(len, dealt)) == 10_000
