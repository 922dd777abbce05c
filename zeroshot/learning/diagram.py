"""Reliability diagrams: how often answers of each confidence are right.

Niculescu-Mizil and Caruana, "Predicting Good Probabilities with Supervised Learning", ICML 2005; Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from zeroshot.optional import require
from zeroshot.scoring import Scores
from zeroshot.statistics import BoolArray, count_bins

_INCHES = 4.2  # of a panel's side
_BARS, _GAP = "#3b76af", "#d9534f"


def reliability_diagram(panels: Sequence[tuple[str, Scores, BoolArray]]) -> bytes:
    """Draw one panel per reading of the same images, such as before and after a calibration.

    Each bar stands over a fifteenth of the confidences and is as high as the share of its answers that are right; the
    thin line is how many of the answers it has. Bars on the diagonal mean confidences that can be taken at their word.

    Parameters
    ----------
    panels : sequence of (str, ndarray of float64, ndarray of bool)
        Title, confidences in [0, 1] and whether each answer is right, (m,) each.

    Returns
    -------
    bytes
        A PNG file.
    """
    figure: Any = require("matplotlib.figure").Figure(
        figsize=(_INCHES * len(panels), _INCHES), dpi=110, layout="constrained"
    )
    for axes, (title, confidences, hits) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        bins = count_bins(confidences, hits)
        edges = np.linspace(0, 1, len(bins.counts) + 1)
        width, full = edges[1], bins.counts > 0
        left = edges[:-1][full]
        right, expected = bins.hits[full] / bins.counts[full], bins.confidence[full] / bins.counts[full]
        axes.bar(left, right, width, align="edge", color=_BARS, edgecolor="white")
        axes.vlines(left + width / 2, right, expected, color=_GAP, linewidth=3, label="gap to the mean confidence")
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        axes.step(
            edges,
            [*bins.counts / len(hits), 0],
            where="post",
            color="black",
            linewidth=0.8,
            label="share of the answers",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=f"{title}: ECE {bins.ece:.3f}", aspect="equal")
    figure.axes[0].set_ylabel("share that is right")
    figure.axes[0].legend(loc="upper left", frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
