"""Labels as a forest: who is whose parent, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroshot.labels.label import Label

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hierarchy:
    """Parents, depths and leaves of k labels.

    Parameters
    ----------
    parents : ndarray of int64, shape (k,)
        Index of each label's parent; -1 where there is none.
    depths : ndarray of int64, shape (k,)
        Steps to the label that has no parent.
    """

    parents: IntArray
    depths: IntArray

    @classmethod
    def of(cls, labels: Sequence[Label]) -> Hierarchy:
        """Read the parents of labels.

        Parameters
        ----------
        labels : sequence of Label
            Validated by ``parse_labels``.

        Returns
        -------
        Hierarchy
            In the order of the labels.
        """
        row_of = {label.name: row for row, label in enumerate(labels)}
        parents = np.array([-1 if label.parent is None else row_of[label.parent] for label in labels], dtype=np.int64)
        depths = np.full(len(parents), -1, dtype=np.int64)
        depth, level = 0, np.flatnonzero(parents < 0)
        while len(level):
            depths[level] = depth
            depth, level = depth + 1, np.flatnonzero(np.isin(parents, level))
        return cls(parents, depths)

    @property
    def leaves(self) -> IntArray:
        """Labels that are no label's parent, shape (leaves,)."""
        children = np.bincount(self.parents[self.parents >= 0], minlength=len(self.parents))
        return np.flatnonzero(children == 0)

    @property
    def is_flat(self) -> bool:
        """Whether no label has a parent."""
        return bool((self.parents < 0).all())

    def path(self, row: int) -> list[int]:
        """Give the way from the top to a label.

        Parameters
        ----------
        row : int
            The label.

        Returns
        -------
        list of int
            Topmost first, the label itself last.
        """
        way = [row]
        while self.parents[way[0]] >= 0:
            way.insert(0, int(self.parents[way[0]]))
        return way

    def distance(self, row: int, other: int) -> int:
        """Count the steps between two labels through the tree: up to their nearest common ancestor, and down.

        Where an answer is too coarse or in another branch, this is its error weighted by depth (Bertinetto et al.,
        "Making Better Mistakes", CVPR 2020, use the same ancestors).

        Parameters
        ----------
        row : int
            A label, or -1 for the place above all.
        other : int
            Another.

        Returns
        -------
        int
            0 for the same label.
        """
        one, two = ([] if label < 0 else self.path(label) for label in (row, other))
        shared = len(_common(one, two))
        return len(one) + len(two) - 2 * shared


def _common(one: list[int], two: list[int]) -> list[int]:
    common = []
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        common.append(a)
    return common
