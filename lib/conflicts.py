"""What weighted Copeland does when metrics disagree: made-up conflicts of a known size, and real ones counted."""
from __future__ import annotations

import zlib
from typing import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from lib.benchmark import Query
from lib.copeland import condorcet_cycles, condorcet_winner, integer_weights, kemeny
from lib.metrics import check_priorities
from lib.priorities import opinions
from lib.statistics import leave_one_out


def at_distance(n: int, swaps: int, generator: np.random.Generator) -> np.ndarray:
    """(n,) int64 places of a random ranking that orders exactly ``swaps`` pairs against 0, 1, ..., n - 1.

    ``swaps`` is the Kendall distance: 0 = same order, n (n - 1) / 2 = reversed (ValueError beyond).
    """
    most = n * (n - 1) // 2
    if not 0 <= swaps <= most:
        raise ValueError(f"at_distance: {swaps} swaps of {n} candidates (allowed: 0 to {most})")
    # An inversion table (entry i: how many of the earlier ones come after i, at most i) stands for one ranking.
    slots = generator.permutation(np.repeat(np.arange(n), np.arange(n)))[:swaps]
    order: list[int] = []
    for i, before in enumerate(np.bincount(slots, minlength=n)):
        order.insert(i - before, i)
    return np.argsort(order)


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two score vectors; NaN if either is constant."""
    return float(kendalltau(a, b).statistic)


def margins(query: Query, priorities: Mapping[str, int], scale: float = 1.0) -> np.ndarray:
    """(n, n) int64 weighted margins under the thresholds times ``scale``; unmeasured metrics have no vote."""
    weights = {m: w for m, w in check_priorities(priorities).items() if m in query.metrics}
    votes = opinions(query, list(weights), scale).astype(np.int64)
    return np.tensordot(integer_weights(list(weights.values())), votes, 1)


def describe(query: Query, priorities: Mapping[str, int], scale: float = 1.0) -> dict[str, float]:
    """Condorcet winner, cycles, undecided pairs and agreement with Borda of one query.

    ``tau`` is Kendall's tau-b between the Copeland and the Borda scores (NaN if either is constant).
    """
    m = margins(query, priorities, scale)
    score, borda, n = np.sign(m).sum(1), m.sum(1), len(m)
    first = score == score.max()
    return {"n": n, "condorcet": condorcet_winner(m) is not None, "cycles": condorcet_cycles(m),
            "first": int(first.sum()), "undecided": 1 - np.count_nonzero(m) / (n * (n - 1)),
            "tau": tau(score, borda), "same_first": bool((first & (borda == borda.max())).any())}


def against_kemeny(query: Query, priorities: Mapping[str, int], size: int = 8, seed: int = 0) -> dict[str, float]:
    """Copeland's order against the exact Kemeny order, on at most ``size`` candidates (a random subset of more).

    ``agreement``: with the metrics, as a share of the best possible; pairs that Copeland ties count 0.
    """
    generator = np.random.default_rng([seed, zlib.crc32(query.name.encode())])
    part = query.subset(np.sort(generator.permutation(len(query))[:size]))
    m = margins(part, priorities)
    score, best = np.sign(m).sum(1), kemeny(m)
    reached = int(m[score[:, None] > score].sum())
    return {"n": len(part), "agreement": reached / best.agreement if best.agreement else 1.0, "optima": best.optima}


def rank_intervals(query: Query, priorities: Mapping[str, int], draws: int = 200, only: Sequence[str] | None = None,
                   seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """How far each candidate's place moves if everything, or ``only`` some metrics, were measured again.

    Returns
    -------
    DataFrame
        ``rank`` published, ``low`` and ``high`` of the interval, ``first`` share of draws in which it is first.
    """
    rng = np.random.default_rng([seed, zlib.crc32(query.name.encode())])
    ranks = np.array([query.again(rng, only).truth(priorities).ranks for _ in range(draws)])
    low, high = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest")
    return pd.DataFrame({"rank": query.truth(priorities).ranks, "low": low, "high": high, "first": (ranks == 1).mean(0)})


def threshold_moves(query: Query, priorities: Mapping[str, int], scales: Sequence[float]) -> pd.DataFrame:
    """What other thresholds (the study's times each scale) do: tau-b with the study's ranking, first place lost."""
    base = np.sign(margins(query, priorities)).sum(1)
    rows = []
    for scale in scales:
        score = np.sign(margins(query, priorities, scale)).sum(1)
        stays = (score == score.max()) & (base == base.max())
        rows.append({"scale": scale, "tau": tau(base, score), "changed": not stays.any()})
    return pd.DataFrame(rows)


def claims(table: Mapping[str, tuple[pd.DataFrame, str]], column: str = "source", unit: str = "soc",
           seed: int = 0) -> pd.DataFrame:
    """Do claims hang on one source? ``table``: claim -> (rows, value column); each unit counts once.

    Returns
    -------
    DataFrame
        One row per claim: ``estimate, low, high, units`` of all rows, ``least`` and ``most`` the estimates that
        come out when each value of ``column`` is left out in turn (NaN if there is only one).
    """
    out = []
    for claim, (rows, value) in table.items():
        found = leave_one_out(rows, column, value, unit, seed=seed)
        rest = found["estimate"].iloc[1:]
        out.append({"claim": claim, **found.iloc[0][["estimate", "low", "high"]], "least": rest.min(),
                    "most": rest.max(), "units": int(found["units"].iloc[0])})
    return pd.DataFrame(out)
