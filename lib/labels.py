"""Model Spider's own training tasks: classes drawn from several data sets, with a rank label per PTM.

Its authors give each sampled task an order of the PTMs instead of fine-tuned accuracies. None of the data sets behind
these tasks is one of their evaluation targets.
"""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import pandas as pd

from lib import paths
from lib.benchmark import Benchmark, Platform, Query, with_traits
from lib.evaluation import Ranker, weighted_tau
from lib.metrics import METRICS
from lib.tokens import EXTRACTORS, MAX_PROTOTYPES, thin

#: Zoo of the labels -> zoo of the fine-tuned accuracies of the same PTMs.
ZOOS = {"single_source_10": "model_spider_ten", "multi_source_42": "model_spider_multi_source"}
TRAITS = ["family", "architecture", "params_m", "macs_m", "macts_m", "size_mib", "year"]


def rank_labels(path: Path | str = paths.FACTS / "transfer" / "model_spider_task_ranks.csv") -> pd.DataFrame:
    """Labels of the sampled tasks: ``zoo, task, task_datasets, model_id, pretrain_dataset, rank`` (0 is worst), and
    ``published``: whether the task is one of those that the authors' test script trains on."""
    table = pd.read_csv(path)
    table = table[table["role"] != "evaluation target"]
    return table.assign(zoo=table["zoo"].map(ZOOS), published=table["role"].str.startswith("training"))


def label_queries(benchmark: Benchmark, zoo: str, labels: pd.DataFrame | None = None) -> list[Query]:
    """One query a sampled task of a zoo; ``accuracy`` holds the rank label, task tokens come from all its data sets.

    Which classes were drawn was not published: the tokens are those of whole data sets, thinned to equal shares.
    ``parent`` joins the data sets with ``|``.
    """
    table = rank_labels() if labels is None else labels
    table = table[table["zoo"] == zoo].assign(training="finetuned", input_shape=None, precision="fp32").reset_index(drop=True)
    table = with_traits(benchmark, table).rename(columns={"rank": "accuracy"})
    columns = ["model_id", "pretrain_dataset", "training", "input_shape", "precision", *TRAITS]
    out = []
    for (task, members), rows in table.groupby(["task", "task_datasets"], sort=True):
        rows, sets = rows.reset_index(drop=True), members.split("|")
        known = [benchmark.tokens.get(f"image_classification/{name}") for name in sets]
        share = MAX_PROTOTYPES // len(sets)
        tokens = {kind: np.concatenate([thin(k[kind], share) for k in known if kind in k])
                  for kind in EXTRACTORS if any(kind in k for k in known)}
        values = pd.DataFrame({m.column: np.nan for m in METRICS.values()}, rows.index).assign(accuracy=rows["accuracy"].astype(float))
        out.append(Query("transfer", f"{zoo} labels", f"image_classification/{task}", Platform("any", "any", "any"), "any",
                         members, rows[columns], values, {}, tokens, "rank label"))
    return out


def taus(ranker: Ranker, queries: Sequence[Query]) -> np.ndarray:
    """Weighted tau of a fitted ranker against the accuracies of each query, (len(queries),)."""
    return np.array([weighted_tau(q.values["accuracy"].to_numpy(), ranker.score(q, {"accuracy": 1})) for q in queries])


def leave_one_out(make: Callable[[], Ranker], queries: Sequence[Query]) -> np.ndarray:
    """Weighted tau on each query of a zoo after training on the others that share no data set with it."""
    return np.concatenate([taus(make().fit([x for x in queries if x.parent != q.parent]), [q]) for q in queries])


def swap_tokens(queries: Sequence[Query], seed: int = 0) -> list[Query]:
    """The same queries, each with the task tokens of another one (a cycle in random order): nobody keeps its own."""
    order = np.random.default_rng(seed).permutation(len(queries))
    donor = dict(zip(order, np.roll(order, 1)))
    return [replace(q, prototypes=queries[donor[i]].prototypes) for i, q in enumerate(queries)]


def best_fixed_order(values: np.ndarray) -> np.ndarray:
    """Scores (n,) of one order for all rows of ``values`` (tasks, n) with the highest mean weighted tau, by exchange.

    Starts at the mean rank and exchanges pairs while that helps: what a ranker could reach that knows the answers but
    does not look at the task.
    """
    def quality(score: np.ndarray) -> float:
        return float(np.mean([weighted_tau(row, score) for row in values]))

    order = values.argsort(1).argsort(1).mean(0).argsort().argsort().astype(float)
    best, n = quality(order), values.shape[1]
    while True:
        trials = []
        for i in range(n):
            for j in range(i):
                other = order.copy()
                other[[i, j]] = order[[j, i]]
                trials.append((quality(other), i, j))
        top, i, j = max(trials)
        if top <= best:
            return order
        best, order[[i, j]] = top, order[[j, i]]
