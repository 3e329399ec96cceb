"""Shares of partitions: balanced, complete, and moving as little as can be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fenbu._core import assignment
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


@given(
    st.dictionaries(st.integers(1, 9), st.integers(-1000, 10_000), min_size=1),
    st.data(),
    st.integers(0, 5000),
)
def test_gifts_are_what_is_too_much_here_and_go_where_there_is_room(loads, data, most):
    mine = data.draw(st.sampled_from(sorted(loads)))
    gifts = assignment.gifts(loads, mine, most)
    assert sum(gifts.values()) <= most
    assert all(count > 0 for count in gifts.values())
    mean = sum(loads.values()) / len(loads)
    for node, count in gifts.items():
        assert node != mine
        assert loads[node] < loads[mine] / 2
        # Also when everybody gives who has too much: nobody gets more than makes all equal.
        everybody = sum(assignment.gifts(loads, each, 10**9).get(node, 0) for each in loads)
        assert count <= everybody <= mean - loads[node] + 1e-6
    if gifts:
        assert loads[mine] - sum(gifts.values()) >= max(mean, 0)


def test_gifts_make_loads_equal():
    assert assignment.gifts({1: 90, 2: 0, 3: -30}, 1, 1000) == {2: 20, 3: 50}
    assert assignment.gifts({1: 90, 2: 0, 3: -30}, 1, 7) == {2: 2, 3: 5}
    # Not to one that has nearly as much.
    assert assignment.gifts({1: 90, 2: 60}, 1, 1000) == {}
    # Nobody waits here.
    assert assignment.gifts({1: -5, 2: -90}, 1, 1000) == {}
