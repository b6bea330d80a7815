"""Speed of the parts beside their peers, in one run on this machine: ``make bench``.

A ratio above 1 means that ours is faster. Each time is the best of three, after one call to warm up; results are
compared too, because a fast wrong answer is no answer.
"""
from __future__ import annotations

import subprocess
import sys
import time
import warnings
from typing import Callable, NamedTuple

import numpy as np

from lib.baselines import BoostedTrees
from lib.benchmark import build_queries, load_benchmark
from lib.copeland import copeland
from lib.fusion import Fusion
from lib.shadow import Shadow


class Row(NamedTuple):
    """One comparison; seconds."""

    what: str
    ours: float
    peer: str
    theirs: float


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some calls."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def against_pref_voting(voters: int, candidates: int) -> Row:
    """Copeland scores of random rankings with ties, from the raw figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own imports
        from pref_voting.profiles_with_ties import ProfileWithTies
    places = np.random.default_rng(0).integers(1, candidates // 2, (voters, candidates))

    def ours() -> list[int]:
        return copeland(places.astype(float), directions=[-1] * voters).scores.tolist()

    def theirs() -> list[int]:
        ballots = [dict(enumerate(row)) for row in places.tolist()]
        scores = ProfileWithTies(ballots, candidates=list(range(candidates))).copeland_scores()
        return [scores[c] for c in range(candidates)]

    if ours() != theirs():
        raise AssertionError("the two disagree")
    return Row(f"Copeland, {voters} voters x {candidates} candidates", best(ours), "pref_voting", best(theirs, 1))


def imports(ours: str, theirs: str) -> Row:
    """Start of a process that imports one module."""
    def start(module: str) -> float:
        return best(lambda: subprocess.run([sys.executable, "-W", "ignore", "-c", f"import {module}"], check=True))

    return Row(f"import {ours}", start(ours), theirs, start(theirs))


def rankers(suite: str, epochs: int | None = None) -> list[Row]:
    """Train on a suite, then rank one query; the peer is gradient boosting (scikit-learn) on the same inputs."""
    queries, priorities = build_queries(load_benchmark(), suite), {"accuracy": 1, "latency": 1}
    made = {}

    def fit(name: str, make: Callable[[], object]) -> float:
        start = time.perf_counter()
        made[name] = make().fit(queries)
        return time.perf_counter() - start

    options = {} if epochs is None else {"epochs": epochs}
    trees = fit("trees", BoostedTrees)
    times = {"Fusion": fit("Fusion", lambda: Fusion(**options)), "Shadow": fit("Shadow", lambda: Shadow(**options))}
    largest = max(queries, key=len)
    one = {name: best(lambda: ranker.score(largest, priorities)) for name, ranker in made.items()}
    rows = [Row(f"train {n} on {len(queries)} queries ({suite})", s, "boosted trees", trees) for n, s in times.items()]
    return rows + [Row(f"{n} ranks {len(largest)} candidates", one[n], "boosted trees", one["trees"]) for n in times]


def table(rows: list[Row]) -> str:
    """Rows as text."""
    lines = [f"{'what':<44}{'ours':>12}  {'peer':<34}{'theirs':>12}{'ratio':>9}"]
    lines += [f"{r.what:<44}{r.ours * 1e3:>9.1f} ms  {r.peer:<34}{r.theirs * 1e3:>9.1f} ms{r.theirs / r.ours:>8.1f}x"
              for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([
        against_pref_voting(2, 200), against_pref_voting(10, 200), against_pref_voting(100, 200),
        imports("lib.copeland", "pref_voting.profiles_with_ties"), *rankers("mcu"),
    ]))
