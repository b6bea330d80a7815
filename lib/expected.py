"""Copeland's method on figures that are not certain: the score that a candidate is expected to get.

A predicted ranking orders every pair as if it were sure, so two voters that contradict each other cancel however close
the call of one of them is. With independent normal errors the chance of each opinion is known (Thurstone, 1927, case V),
and with it the expected sign of the weighted vote on every pair. Without errors this is :func:`lib.copeland.copeland`.
"""
from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Mapping, Sequence

import numpy as np
from scipy.special import ndtr

from lib.benchmark import Query
from lib.copeland import copeland, integer_weights
from lib.metrics import HARDWARE, check_priorities

MOST = 1000  # candidates whose pairs are weighed; the table grows with their square
#: Standard deviation of a vote: of a predicted log10 figure within one board, and of a Plackett-Luce score, whose logistic
#: law of pairs this normal one matches.
SPREAD = dict.fromkeys(HARDWARE, 0.15) | {"accuracy": 1.2}


def expected_copeland(values: np.ndarray, weights: Sequence[int | Fraction], spreads: Sequence[np.ndarray | float],
                      thresholds: Sequence[float]) -> np.ndarray:
    """Expected Copeland scores, -(n - 1) to n - 1.

    Parameters
    ----------
    values : (V, n)
        One row a voter, larger is better, NaN = no opinion; equal values are the same thing (a tie for sure).
    weights : (V,)
    spreads : V numbers or arrays (n,)
        Standard deviation of the error of each value, in the row's unit; 0: certain.
    thresholds : (V,)
        Differences up to this, in the row's unit, are ties.

    Returns
    -------
    (n,) float
    """
    chances: dict[int, np.ndarray | float] = {0: 1.0}  # weighted vote on a pair (i, j) -> its probability (n, n)
    for row, weight, spread, tie in zip(np.asarray(values, float), integer_weights(weights), spreads, thresholds):
        ahead, variance = row[:, None] - row, np.broadcast_to(np.square(spread), row.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            wins = np.nan_to_num(ndtr((ahead - tie) / np.sqrt(variance[:, None] + variance)))
        wins[(ahead == 0) | (variance[:, None] + variance == 0) & (ahead <= tie)] = 0.0
        after: dict[int, np.ndarray | float] = defaultdict(float)
        for total, chance in chances.items():
            for opinion, share in ((weight, wins), (-weight, wins.T), (0, 1 - wins - wins.T)):
                after[total + opinion] = after[total + opinion] + chance * share
        chances = after
    return sum(np.sign(total) * chance for total, chance in chances.items()).sum(axis=1)


def combine(votes: Mapping[str, np.ndarray], priorities: Mapping[str, int | Fraction],
            spreads: Mapping[str, np.ndarray | float] | None = None, ties: Mapping[str, float] | None = None) -> np.ndarray:
    """Copeland scores (n,) of predicted metrics, each (n,) and larger = better; metrics without a vote are skipped.

    Differences up to ``ties`` (in the unit of the vote) are ties. With ``spreads`` (standard deviation of each vote) the
    expected scores; votes on more than :data:`MOST` candidates are taken as certain.

    Raises
    ------
    ValueError
        No metric with a weight has a vote.
    """
    weights = {m: w for m, w in check_priorities(priorities).items() if m in votes}
    if not weights:
        raise ValueError(f"none of {', '.join(priorities)} is predicted (predicted: {', '.join(votes)})")
    # float32 noise must not break ties between PTMs of one architecture
    values = np.stack([np.round(votes[m], 5) for m in weights])
    indifferent = [(ties or {}).get(m, 0.0) for m in weights]
    if spreads is None or values.shape[1] > MOST:
        return copeland(values, list(weights.values()), thresholds=indifferent, absolute=[True] * len(weights)).scores.astype(float)
    return expected_copeland(values, list(weights.values()), [spreads[m] for m in weights], indifferent)


def log_ties(query: Query) -> dict[str, float]:
    """Indifference thresholds of the hardware metrics on the scale of log10 votes."""
    return {m: -np.log10(1 - n.threshold) for m, n in query.noise.items() if not n.absolute}
