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

import pandas as pd

from lib import paths
from lib.benchmark import Query, build_queries, load_benchmark, study_queries
from lib.evaluation import RANKERS, Ranker, cross_validate
from lib.fusion import Fusion
from lib.shadow import Shadow

WEIGHTINGS = {"balanced": {"accuracy": 1, "latency": 1}, "quality first": {"accuracy": 2, "latency": 1},
              "speed first": {"accuracy": 1, "latency": 2}, "accuracy": {"accuracy": 1}, "latency": {"latency": 1}}
PROTOCOLS = ("unseen_device", "unseen_task", "unseen_both", "unseen_source", "unseen_model", "few_shot(5)")
VALUES = ["tau", "regret", "hit3", "accuracy_loss", "latency_ratio"]

#: What each departure from the published design is worth: one switch at a time.
ABLATIONS: dict[str, Callable[[int], Ranker]] = {
    "Fusion": lambda seed: Fusion(seed=seed),
    "no traits in the PTM token": lambda seed: Fusion(seed=seed, traits=False),
    "no learned part in the PTM token": lambda seed: Fusion(seed=seed, learned=False),
    "no hardware tokens": lambda seed: Fusion(seed=seed, hardware=False),
    "no feed-forward part": lambda seed: Fusion(seed=seed, feed_forward=False),
    "one head": lambda seed: Fusion(seed=seed, heads=1),
    "pairwise loss": lambda seed: Fusion(seed=seed, loss="pairwise_logistic"),
}


def group_of(protocol: str) -> str:
    """Column that holds the independent unit of a protocol."""
    return {"unseen_task": "parent", "unseen_source": "source"}.get(protocol, "soc")


def aggregate(results: pd.DataFrame, group: str) -> pd.DataFrame:
    """Mean per ranker, seed, weighting, suite, processor and group, with the number of queries behind it."""
    keys = ["protocol", "ranker", "seed", "priorities", "suite", "processor", group]
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
               "latency_few_shot_5": ({"Shadow": lambda seed: Shadow(seed=seed)}, latency, [], "few_shot(5)", fast)}
    for name in options.only or tables:
        print(run(name, *tables[name], options.folder, seeds, options.folds, options.jobs))


if __name__ == "__main__":
    main()
