"""Texts that begin alike, packed so that what they share is computed once.

In a causal text tower a token sees only the tokens before it, so prompts with a common beginning ("a photo of a ...")
have common states there. The token lists are merged into a forest; its nodes are laid out as one sequence in which each
node may attend to its ancestors alone, at the position of its depth. Every text's last node then holds just what the
text alone would give: the same arithmetic, fewer tokens. (Tree attention, as in Miao et al., "SpecInfer", ASPLOS 2024,
used there for decoding.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """Some texts, merged into one sequence of n nodes."""

    members: list[int]
    tokens: IntArray
    positions: IntArray
    visible: npt.NDArray[np.bool_]
    leaves: IntArray


def pack(token_ids: Sequence[Sequence[int]], max_nodes: int) -> Iterator[Packed]:
    """Merge texts with common beginnings."""
    order = sorted(range(len(token_ids)), key=lambda i: tuple(token_ids[i]))
    start = 0
    while start < len(order):
        nodes, stop = 0, start
        while stop < len(order):
            own = token_ids[order[stop]]
            shared = 0 if stop == start else _common(token_ids[order[stop - 1]], own)
            if stop > start and nodes + len(own) - shared > max_nodes:
                break
            nodes += len(own) - shared
            stop += 1
        yield _merge(token_ids, order[start:stop], nodes)
        start = stop


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    length = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        length += 1
    return length


def _merge(token_ids: Sequence[Sequence[int]], members: list[int], nodes: int) -> Packed:
    tokens, positions = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    visible = np.zeros((nodes, nodes), np.bool_)
    leaves = []
    path: list[int] = []  # nodes of the text before, root first
    previous: Sequence[int] = ()
    used = 0
    for member in members:
        own = token_ids[member]
        del path[_common(previous, own) :]
        for depth in range(len(path), len(own)):
            tokens[used], positions[used] = own[depth], depth
            visible[used, path] = True
            visible[used, used] = True
            path.append(used)
            used += 1
        leaves.append(path[-1])
        previous = own
    return Packed(members, tokens, positions, visible, np.array(leaves, np.int64))
