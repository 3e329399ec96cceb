"""Which node should own which partition: every node computes it for itself, from what all of them own.

Balanced: the shares differ by one at most. Stable: a node keeps what it owns up to its share, so as few
partitions move as there can. It need not be the same at every node at every moment: locks decide who owns a
partition, this only says who should try.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def wanted(owned: Mapping[int, Sequence[int]], count: int) -> dict[int, list[int]]:
    """The partitions that each node should own, by node.

    Args:
        owned: What each live node owns now, by node; the oldest node has the lowest number.
        count: How many partitions there are, numbered from 0.
    """
    nodes = sorted(owned)
    if not nodes:
        return {}
    share, rest = divmod(count, len(nodes))
    # Who owns most already keeps one more.
    by_size = sorted(nodes, key=lambda node: (-len(owned[node]), node))
    shares = {node: share + (place < rest) for place, node in enumerate(by_size)}
    kept = {node: sorted(owned[node])[: shares[node]] for node in nodes}
    taken = {number for numbers in kept.values() for number in numbers}
    free = iter([number for number in range(count) if number not in taken])
    return {
        node: sorted([*kept[node], *(next(free) for _ in range(shares[node] - len(kept[node])))])
        for node in nodes
    }


def gifts(loads: Mapping[int, int], mine: int, most: int) -> dict[int, int]:
    """How many of the calls that wait at one node should go to each of the others.

    So many that all would wait equally long, if each node that has too much does the same. Nothing goes to a
    node that has half as much or more: moving a call costs two rows.

    Args:
        loads: The calls that wait at each node; below 0, the free places.
        mine: The node that asks.
        most: How many it can give.
    """
    mean = sum(loads.values()) / len(loads)
    excess = {node: load - max(mean, 0.0) for node, load in loads.items() if load > max(mean, 0.0)}
    if mine not in excess:
        return {}
    needs = {node: mean - load for node, load in loads.items() if load < min(mean, loads[mine] / 2)}
    needed = sum(needs.values())
    # Others that have too much give their part.
    total = min(excess[mine], most, needed * excess[mine] / sum(excess.values()))
    shares = {node: int(need * total / needed) for node, need in needs.items()}
    return {node: share for node, share in shares.items() if share > 0}
