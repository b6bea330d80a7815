"""The full comparison: every protocol, ranker, weighting and seed; resumable, its tables committed in data/results.

``python -m lib.sweep`` runs what is missing. One file a protocol holds means per ranker, weighting, suite and group (the
unit that is independent: SoC, data set, source or family fold), from which the chapters draw their intervals.
"""
from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import studentized_range, wilcoxon
from statsmodels.stats.multitest import multipletests

from lib import paths
from lib.benchmark import Query, build_queries, load_benchmark, study_queries
from lib.evaluation import RANKERS, Ranker, bootstrap_interval, cross_validate
from lib.fusion import Fusion
from lib.shadow import Shadow

WEIGHTINGS = {"balanced": {"accuracy": 1, "latency": 1}, "quality first": {"accuracy": 2, "latency": 1},
              "speed first": {"accuracy": 1, "latency": 2}, "accuracy": {"accuracy": 1}, "latency": {"latency": 1}}
PROTOCOLS = ("unseen_device", "unseen_task", "unseen_both", "unseen_source", "unseen_model", "few_shot(5)")
FOLDS = {"unseen_task": 3, "unseen_both": 2, "unseen_source": 3, "unseen_model": 2, "ablation_device": 3, "ablation_task": 2}  # the costly ones
VALUES = ["tau", "regret", "hit3", "accuracy_loss", "latency_more", "latency_ratio", "memory_more", "memory_ratio"]

#: What each departure from the published design is worth: one switch at a time.
ABLATIONS: dict[str, Callable[[int], Ranker]] = {
    "Fusion": lambda seed: Fusion(seed=seed),
    "no traits in the PTM token": lambda seed: Fusion(seed=seed, traits=False),
    "no learned part in the PTM token": lambda seed: Fusion(seed=seed, learned=False),
    "no hardware tokens": lambda seed: Fusion(seed=seed, hardware=False),
    "no feed-forward part": lambda seed: Fusion(seed=seed, feed_forward=False),
    "one head": lambda seed: Fusion(seed=seed, heads=1),
    "pairwise loss": lambda seed: Fusion(seed=seed, loss="pairwise_logistic"),
    "Shadow": lambda seed: Shadow(seed=seed),
    "Shadow, votes taken as certain": lambda seed: Shadow(seed=seed, certain=True),
    "Shadow, network alone": lambda seed: Shadow(seed=seed, similar=False),
}
SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the chips that a learning curve trains on


class FewerChips:
    """A ranker that gets to see only a share of the training chips: one point of a learning curve."""

    def __init__(self, ranker: Ranker, share: float, seed: int = 0) -> None:
        self.ranker, self.share, self.seed = ranker, share, seed

    def fit(self, queries: Sequence[Query]) -> "FewerChips":
        """Train on queries of randomly drawn chips, four at least."""
        chips = np.random.default_rng(self.seed).permutation(sorted({q.soc for q in queries}))
        kept = set(chips[:max(4, round(self.share * len(chips)))])
        self.ranker.fit([q for q in queries if q.soc in kept])
        return self

    def score(self, query: Query, priorities: dict) -> np.ndarray:
        """(n,), higher is better."""
        return self.ranker.score(query, priorities)


def learning_curve() -> dict[str, Callable[[int], Ranker]]:
    """Rankers of latency trained on a growing share of the chips; the whole is in ``latency_unseen_device``."""
    return {f"{name} {share}": lambda seed, n=name, s=share: FewerChips(RANKERS[n](seed), s, seed)
            for name in ("Shadow", "Boosted trees", "Mean rank") for share in SHARES}


def group_of(protocol: str) -> str:
    """Column that holds the independent unit of a protocol."""
    return {"unseen_task": "parent", "unseen_source": "source"}.get(protocol, "soc")


def aggregate(results: pd.DataFrame, group: str) -> pd.DataFrame:
    """Mean per ranker, seed, weighting, suite, processor and group, with the number of queries behind it."""
    keys = ["protocol", "ranker", "seed", "priorities", "suite", "processor", group]
    results = results.assign(**{group: results[group].str.partition("+")[0]})  # of 'ncnn+parc' the boards are what was held out
    table = results.groupby(keys, sort=True).agg(**{v: (v, "mean") for v in VALUES if v in results}, queries=("query", "size"))
    return table.reset_index().rename(columns={group: "group"}).round(5)


def run(name: str, rankers: dict[str, Callable[[int], Ranker]], queries: Sequence[Query], extra: Sequence[Query], protocol: str,
        weightings: dict, folder: Path, seeds: Sequence[int], n_folds: int, n_jobs: int) -> Path:
    """One table, unless it is there already; written at once or not at all."""
    path = folder / f"{name}.csv"
    if path.exists():
        return path
    start = time.perf_counter()
    results = cross_validate(rankers, queries, protocol, weightings, n_folds=n_folds, seeds=seeds, n_jobs=n_jobs, extra=extra, progress=True)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    aggregate(results, group_of(protocol)).to_csv(part, index=False)
    log = pd.DataFrame([{"table": name, "command": "python -m lib.sweep", "seeds": " ".join(map(str, seeds)), "folds": n_folds,
                         "queries": len(queries), "seconds": round(time.perf_counter() - start), "cores": os.cpu_count(),
                         "python": platform.python_version(), "pandas": pd.__version__}])
    log.to_csv(folder / "runs.csv", mode="a", header=not (folder / "runs.csv").exists(), index=False)
    os.replace(part, path)
    return path


def load(name: str, folder: Path = paths.RESULTS) -> pd.DataFrame:
    """A committed table of the sweep.

    Raises
    ------
    ValueError
        The table is missing.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        raise ValueError(f"{path}: the sweep has no such table; run python -m lib.sweep --only {name}")
    return pd.read_csv(path)


def intervals(table: pd.DataFrame, by: Sequence[str] = ("ranker",), value: str = "tau", draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean over groups, each group counted once, with a 95 % bootstrap interval over groups.

    Returns
    -------
    DataFrame
        The columns of ``by`` and ``estimate, low, high, groups, queries``.
    """
    rows = []
    for key, part in table.dropna(subset=[value]).groupby(list(by), sort=False):
        means = part.groupby("group")[value].mean()
        estimate, low, high = bootstrap_interval(means.to_numpy(), draws=draws, seed=seed)
        queries = part.groupby(["seed", "priorities", "ranker"])["queries"].sum().max()
        rows.append(dict(zip(by, key)) | {"estimate": estimate, "low": low, "high": high, "groups": len(means), "queries": int(queries)})
    return pd.DataFrame(rows)


def paired(table: pd.DataFrame, one: str, other: str, by: Sequence[str] = (), value: str = "tau", seed: int = 0) -> pd.DataFrame:
    """Difference ``one - other`` of two rankers on the same groups, with a bootstrap interval and a Wilcoxon p-value.

    p-values of the rows are adjusted together (Benjamini-Hochberg).
    """
    rows = []
    for key, part in ([((), table)] if not by else table.groupby(list(by), sort=False)):
        wide = part.pivot_table(index="group", columns="ranker", values=value)
        gap = (wide[one] - wide[other]).dropna()
        estimate, low, high = bootstrap_interval(gap.to_numpy(), seed=seed)
        p = wilcoxon(gap).pvalue if len(gap) > 5 and (gap != 0).any() else float("nan")
        rows.append(dict(zip(by, key)) | {"estimate": estimate, "low": low, "high": high, "groups": len(gap), "p": p})
    out = pd.DataFrame(rows)
    known = out["p"].notna()
    out.loc[known, "p"] = multipletests(out.loc[known, "p"], method="fdr_bh")[1] if known.any() else None
    return out


def winners(table: pd.DataFrame, by: Sequence[str], value: str = "tau") -> pd.DataFrame:
    """Best ranker of each cell of ``by`` (mean over groups), the second best, and how far apart they are.

    Returns
    -------
    DataFrame
        ``by, first, estimate, second, gap, low, high``: the gap with its 95 % bootstrap interval over groups.
    """
    rows = []
    for key, part in table.groupby(list(by), sort=False):
        order = intervals(part, value=value).sort_values("estimate", ascending=False)
        first, second = order["ranker"].iloc[:2]
        gap = paired(part, first, second, value=value).iloc[0]
        rows.append(dict(zip(by, key)) | {"first": first, "estimate": order["estimate"].iloc[0], "second": second,
                                          "gap": gap["estimate"], "low": gap["low"], "high": gap["high"]})
    return pd.DataFrame(rows)


def mean_ranks(table: pd.DataFrame, value: str = "tau") -> tuple[pd.Series, float]:
    """Mean rank of each ranker over the groups (1 best), and Nemenyi's critical difference at 5 % (Demsar, JMLR 2006)."""
    wide = table.pivot_table(index="group", columns="ranker", values=value).dropna()
    ranks = wide.rank(axis=1, ascending=False).mean().sort_values()
    k, n = wide.shape[1], len(wide)
    return ranks, float(studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing of the sweep."""
    parser = argparse.ArgumentParser(prog="python -m lib.sweep", description=__doc__)
    parser.add_argument("--only", nargs="*", help="tables to run (default: all that are missing)")
    parser.add_argument("--folder", type=Path, default=paths.RESULTS)
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=-1)
    options = parser.parse_args(arguments)
    benchmark, seeds = load_benchmark(), [int(s) for s in options.seeds.split(",")]
    queries, extra = study_queries(benchmark)
    latency = build_queries(benchmark, "latency")
    fast = {"latency": {"latency": 1}}
    blind = {k: v for k, v in RANKERS.items() if k != "Model Spider"}
    tables = {p.replace("(", "_").replace(")", ""): (RANKERS, queries, extra, p, WEIGHTINGS) for p in PROTOCOLS}
    tables["few_shot_5"] = ({"Shadow": RANKERS["Shadow"]}, *tables["few_shot_5"][1:])  # the others do not adapt: same as unseen_device
    tables |= {"ablation_device": (ABLATIONS, queries, extra, "unseen_device", WEIGHTINGS),
               "ablation_task": (ABLATIONS, queries, extra, "unseen_task", WEIGHTINGS),
               "latency_unseen_device": (blind, latency, [], "unseen_device", fast),
               "latency_learning_curve": (learning_curve(), latency, [], "unseen_device", fast),
               "latency_few_shot_5": ({"Shadow": RANKERS["Shadow"]}, latency, [], "few_shot(5)", fast)}
    for name in options.only or tables:
        print(run(name, *tables[name], options.folder, seeds, FOLDS.get(name, options.folds), options.jobs))


if __name__ == "__main__":
    main()
