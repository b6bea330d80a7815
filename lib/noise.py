"""How much of a difference between two figures is noise: per source, metric and task, from ``data/registry/noise.csv``.

The table is derived from repeated measurements in the data chapter. Its most specific row answers: source and task,
source, then any source (``*``). A metric whose row states no threshold does not repeat at all and has no vote.
An accuracy that is a share of right answers on a known number of test images gets its threshold from that number.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib import paths
from lib.metrics import METRICS

#: Accuracies that are a share of right answers: their luck is binomial.
SHARES = ("top1", "accuracy", "mean_per_class_accuracy", "clip_accuracy", "rank1")
#: Of the binomial error only this part moves models against each other: all of them see the same images.
OWN_LUCK = 0.8
#: Gap over scatter from which one order in ten is reversed by a repetition: the 90 % quantile times the root of two.
ONE_IN_TEN = 1.28 * np.sqrt(2)


class Noise(NamedTuple):
    """``threshold``: differences up to it are ties; ``scatter``: standard deviation of a repetition. Both are shares of the
    figure, or its unit (accuracy: points) if ``absolute``."""

    threshold: float
    scatter: float
    absolute: bool


def sampling_error(accuracy: float | np.ndarray, images: float) -> float | np.ndarray:
    """Standard error in points of an accuracy in % on so many test images (binomial)."""
    return np.sqrt(np.asarray(accuracy) * (100 - np.asarray(accuracy)) / images)


@cache
def table(path: Path = paths.REGISTRY / "noise.csv") -> pd.DataFrame:
    """The shipped table, indexed by source, metric and task."""
    return pd.read_csv(path).set_index(["source", "metric", "task"])


def noise(source: str = "*", task: str = "*", accuracy_metric: str = "", accuracy: float = np.nan) -> dict[str, Noise]:
    """Noise of every metric that has a vote.

    Parameters
    ----------
    source : as :attr:`lib.benchmark.Query.source`: of the hardware figures, and after a ``+`` of the accuracies.
    accuracy : typical accuracy of the candidates in %, which sets the sampling error.
    """
    hardware, _, quality = source.partition("+")
    known, out = table(), {}
    for metric in METRICS:
        of = (quality or hardware) if metric == "accuracy" else hardware
        row = next(known.loc[key] for key in [(of, metric, task), (of, metric, "*"), ("*", metric, task), ("*", metric, "*")] if key in known.index)
        threshold, scatter = float(row["threshold"]), float(row["scatter"])
        if row["images"] > 0 and accuracy_metric in SHARES and 0 <= accuracy <= 100:
            luck = OWN_LUCK * float(sampling_error(accuracy, row["images"]))
            threshold, scatter = max(threshold, ONE_IN_TEN * luck), max(scatter, luck)
        if np.isfinite(threshold):
            out[metric] = Noise(threshold, scatter, metric == "accuracy")
    return out
