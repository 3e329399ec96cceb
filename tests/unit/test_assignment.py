"""Shares of partitions: balanced, complete, and moving as little as can be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fenbu._core.assignment import wanted

COUNT = 64

shares = st.lists(st.integers(0, 6), min_size=COUNT, max_size=COUNT).map(
    lambda owners: {
        node: [number for number, owner in enumerate(owners) if owner == node]
        for node in sorted(set(owners))
    }
)
"""Who owns what, where owner 0 is gone."""


def living(owned: dict[int, list[int]]) -> dict[int, list[int]]:
    found = {node: numbers for node, numbers in owned.items() if node != 0}
    return found or {1: []}


@given(shares)
def test_every_partition_has_one_owner_and_shares_differ_by_one_at_most(owned):
    found = wanted(living(owned), COUNT)
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(COUNT))
    sizes = [len(numbers) for numbers in found.values()]
    assert max(sizes) - min(sizes) <= 1


@given(shares)
def test_a_node_gives_away_no_more_than_it_must(owned):
    nodes = living(owned)
    found = wanted(nodes, COUNT)
    for node, numbers in nodes.items():
        given_away = set(numbers) - set(found[node])
        assert len(given_away) == max(0, len(numbers) - len(found[node]))


@given(shares)
def test_what_is_settled_stays(owned):
    found = wanted(living(owned), COUNT)
    assert wanted(found, COUNT) == found


def test_a_node_that_comes_gets_its_share_from_all_and_one_that_goes_leaves_it_to_all():
    three = wanted({1: range(22), 2: range(22, 43), 3: range(43, 64)}, COUNT)
    four = wanted({**three, 4: []}, COUNT)
    assert {node: len(numbers) for node, numbers in four.items()} == dict.fromkeys(range(1, 5), 16)
    assert all(set(four[node]) <= set(three[node]) for node in three)
    left = wanted({node: four[node] for node in (1, 3, 4)}, COUNT)
    assert all(set(four[node]) <= set(left[node]) for node in left)
    assert Counter(len(numbers) for numbers in left.values()) == {21: 2, 22: 1}


def test_without_nodes_nobody_owns_anything():
    assert wanted({}, COUNT) == {}
