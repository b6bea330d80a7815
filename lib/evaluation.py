"""Protocols without leaks, ranking metrics and cross-validation of rankers."""
from __future__ import annotations

import os
import re
import zlib
from contextlib import contextmanager
from fractions import Fraction
from typing import Callable, Iterator, Mapping, NamedTuple, Protocol, Sequence

import joblib
import numpy as np
import pandas as pd
from scipy.stats import weightedtau
from tqdm import tqdm

from lib.baselines import BASELINES
from lib.benchmark import MIN_CANDIDATES, VARIANT, Query
from lib.fusion import Fusion
from lib.metrics import METRICS
from lib.shadow import Shadow
from lib.spider import ModelSpider

PROTOCOLS = ("unseen_device", "unseen_task", "unseen_both", "unseen_source", "unseen_model", "few_shot(5)")
Priorities = Mapping[str, int | Fraction]


class Ranker(Protocol):
    """Anything that learns from queries and scores the candidates of one."""

    def fit(self, queries: Sequence[Query]) -> "Ranker":
        """Learn; returns itself."""

    def score(self, query: Query, priorities: Priorities) -> np.ndarray:
        """(n,), higher is better."""


#: Name -> factory taking a seed.
RANKERS: dict[str, Callable[[int], Ranker]] = {
    "Fusion": lambda seed: Fusion(seed=seed),
    "Shadow": lambda seed: Shadow(seed=seed),
    "Model Spider": lambda seed: ModelSpider(seed=seed),
    **BASELINES,
}


def weighted_tau(truth: np.ndarray, score: np.ndarray) -> float:
    """Weighted Kendall tau, ``scipy.stats.weightedtau(truth, score, rank=None)``, as in Model Spider.

    Hyperbolic weights by the true order: mistakes at the top cost most. Truth first: the argument order matters. A
    constant score says nothing and gets 0; NaN if the truth itself is constant.
    """
    truth, score = np.asarray(truth, float), np.asarray(score, float)
    if np.ptp(truth) == 0:
        return float("nan")
    if np.ptp(score) == 0:
        return 0.0
    return float(weightedtau(truth, score, rank=None).statistic)


def top1_regret(truth: np.ndarray, score: np.ndarray) -> float:
    """Copeland score lost by taking the top recommendation, as a share of the possible loss (0 best, 1 worst).

    If several candidates tie at the top of ``score``, the mean over them: ties are not broken in anybody's favour.
    """
    truth, score = np.asarray(truth, float), np.asarray(score, float)
    span = np.ptp(truth)
    return float((truth.max() - truth[score == score.max()].mean()) / span) if span else 0.0


def hit_at_k(truth: np.ndarray, score: np.ndarray, k: int = 3) -> float:
    """Probability that a best candidate is among the first k, ties of ``score`` in random order."""
    truth, score = np.asarray(truth, float), np.asarray(score, float)
    best = truth == truth.max()
    cut = np.sort(score)[::-1][min(k, len(score)) - 1]
    if (best & (score > cut)).any():
        return 1.0
    tied, places = score == cut, k - int((score > cut).sum())
    miss, n, winners = 1.0, int(tied.sum()), int((best & tied).sum())
    for i in range(min(places, n)):  # drawing without replacement
        miss *= max(0, n - winners - i) / (n - i)
    return 1.0 - miss


def losses(query: Query, truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """What the top recommendation costs against the truth's best: accuracy lost (points) and, of the other metrics that were
    measured, what is spent more (``_more``, ms, KiB, µJ) and how many times as much (``_ratio``)."""
    pick, best = np.asarray(score) == np.max(score), np.asarray(truth) == np.max(truth)
    out = {}
    for name in query.metrics:
        a, b = (float(query.values[METRICS[name].column][rows].mean()) for rows in (best, pick))  # NaN where none was measured
        out |= {"accuracy_loss": a - b} if name == "accuracy" else {f"{name}_more": b - a, f"{name}_ratio": b / a}
    return out


def bootstrap_interval(values: Sequence[float], groups: Sequence[object] | None = None, level: float = 0.95,
                       draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean with a percentile interval, resampling whole groups (boards, data sets): rows of a group are not independent."""
    frame = pd.DataFrame({"value": values, "group": range(len(values)) if groups is None else groups}).dropna(subset=["value"])
    if frame.empty:
        return (float("nan"),) * 3
    totals = frame.groupby("group")["value"].agg(["sum", "count"]).to_numpy()
    picks = np.random.default_rng(seed).integers(len(totals), size=(draws, len(totals)))
    sums = totals[picks].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(frame["value"].mean()), float(low), float(high)


class Split(NamedTuple):
    """Training and test queries of one fold; ``shots`` measurements of each test query are revealed."""

    fold: int
    train: list[Query]
    test: list[Query]
    shots: int = 0


def _folds(groups: Sequence[str], n_folds: int, seed: int) -> dict[str, int]:
    """Group -> fold; random, balanced by the number of queries per group, independent of the queries' order."""
    sizes = pd.Series(groups).value_counts()
    names = sorted(sizes.index)
    np.random.default_rng(seed).shuffle(names)
    load, fold = np.zeros(min(n_folds, len(names)), int), {}
    for name in sorted(names, key=lambda n: -sizes[n]):  # stable: the shuffle decides among equals
        fold[name] = int(load.argmin())
        load[fold[name]] += sizes[name]
    return fold


def _group(query: Query, key: str) -> str:
    return getattr(query, key).split("+")[0]  # a source 'ncnn+parc' belongs to the vendor of its latencies


def splits(queries: Sequence[Query], protocol: str, n_folds: int = 5, seed: int = 0, extra: Sequence[Query] = ()) -> Iterator[Split]:
    """Leak-free folds of a protocol.

    ``extra`` queries (fine-tuning studies without a board, boards without accuracies) only ever train, and only where
    they share nothing with the test queries that the protocol holds out: no SoC, data set, source or family.

    Boards of one SoC stay together (``q.soc``), sub-sets of one data set too (``q.parent``), and so do the members of
    a model family. ``unseen_both`` trains on neither the test boards nor the test data sets.

    Raises
    ------
    ValueError
        Unknown protocol, or fewer than two groups to split.
    """
    shots = re.fullmatch(r"few_shot\((\d+)\)", protocol)
    if protocol not in ("unseen_device", "unseen_task", "unseen_both", "unseen_source", "unseen_model") and not shots:
        raise ValueError(f"protocol '{protocol}' is unknown (allowed: unseen_device, unseen_task, unseen_both, unseen_source, unseen_model, few_shot(k))")
    if protocol == "unseen_model":
        families = _folds([str(f) for q in queries for f in q.candidates["family"].unique()], n_folds, seed)
        for fold in range(max(families.values()) + 1):
            held = [q.candidates["family"].map(lambda f: families[str(f)] == fold).to_numpy() for q in queries]
            train = [q.subset(np.flatnonzero(~h)) for q, h in zip(queries, held) if (~h).sum() >= MIN_CANDIDATES]
            for q in extra:
                keep = q.candidates["family"].map(lambda f: families.get(str(f)) != fold).to_numpy()
                train += [q.subset(np.flatnonzero(keep))] if keep.sum() >= MIN_CANDIDATES else []
            yield Split(fold, train, [q.subset(np.flatnonzero(h)) for q, h in zip(queries, held) if h.sum() >= MIN_CANDIDATES])
        return
    keys = {"unseen_task": ("parent",), "unseen_both": ("soc", "parent"), "unseen_source": ("source",)}.get(protocol, ("soc",))
    folds = []
    for key in keys:
        group = [_group(q, key) for q in queries]
        if len(set(group)) < 2:
            raise ValueError(f"{protocol}: only one {key} ('{group[0] if group else 'none'}') in the queries, nothing to hold out")
        table = _folds(group, n_folds, seed)
        folds.append([table[g] for g in group])
    cells = sorted(set(zip(*folds)))
    for number, cell in enumerate(cells):
        test = [q for q, *f in zip(queries, *folds) if tuple(f) == cell]
        train = [q for q, *f in zip(queries, *folds) if all(a != b for a, b in zip(f, cell))]
        held_out = [{_group(q, key) for q in test} for key in keys]
        train += [q for q in extra if not any(_group(q, key) in out for key, out in zip(keys, held_out))]
        if test:
            yield Split(number, train, test, int(shots[1]) if shots else 0)


def revealed(query: Query, shots: int, seed: int) -> np.ndarray:
    """Latencies of ``shots`` candidates with distinct variants, NaN elsewhere; (n,)."""
    rng = np.random.default_rng([seed, zlib.crc32(query.name.encode())])
    known = np.flatnonzero(query.values["latency_ms"].notna() & ~query.candidates.duplicated(["model_id", "input_shape", "precision"]))
    out = np.full(len(query), np.nan)
    pick = rng.permutation(known)[:shots]
    out[pick] = query.values["latency_ms"].to_numpy()[pick]
    return out


def evaluate(ranker: Ranker, split: Split, priorities: Priorities, seed: int = 0) -> list[dict]:
    """Metrics of a fitted ranker on each test query of a split."""
    rows = []
    for q in split.test:
        if not set(priorities) & set(q.metrics):
            continue
        truth = q.truth(priorities).scores
        extra = {"measured": revealed(q, split.shots, seed)} if split.shots and getattr(ranker, "adapts", False) else {}
        score = ranker.score(q, priorities, **extra)
        rows.append({
            "fold": split.fold, "suite": q.suite, "source": q.source, "task": q.task, "parent": q.parent, "soc": q.soc,
            "device_id": q.platform.device_id, "processor": q.platform.processor, "query": q.name, "n": len(q),
            "tau": weighted_tau(truth, score), "regret": top1_regret(truth, score), "hit3": hit_at_k(truth, score),
            **losses(q, truth, score),
        })
    return rows


@contextmanager
def parallel(n_jobs: int = -1) -> Iterator[None]:
    """Context in which joblib runs: the Dask cluster at ``DASK_SCHEDULER_ADDRESS`` if set, else local processes."""
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if n_jobs == 1:
        yield
    elif address:
        from distributed import Client

        with Client(address) as client, joblib.parallel_config("dask", client=client):
            yield
    else:
        with joblib.parallel_config("loky", n_jobs=n_jobs):
            yield


def cross_validate(rankers: Mapping[str, Callable[[int], Ranker]], queries: Sequence[Query], protocol: str,
                   priorities: Mapping[str, Priorities], *, n_folds: int = 5, seeds: Sequence[int] = (0,), n_jobs: int = -1,
                   extra: Sequence[Query] = (), progress: bool = False) -> pd.DataFrame:
    """Fit every ranker on every fold and score the held-out queries.

    Parameters
    ----------
    rankers : name -> factory(seed)
    priorities : name -> weights; one fitted ranker serves all of them

    Returns
    -------
    DataFrame
        One row per ranker, seed, priorities and test query: ``tau, regret, hit3, accuracy_loss, latency_ratio ...``
        in a stable order.
    """
    folds = list(splits(queries, protocol, n_folds, extra=extra))
    jobs = [(name, seed, split) for split in folds for name in rankers for seed in seeds]

    def work(name: str, seed: int, split: Split) -> list[dict]:
        ranker = rankers[name](seed).fit(split.train)
        return [{"protocol": protocol, "ranker": name, "seed": seed, "priorities": label} | row
                for label, weights in priorities.items() for row in evaluate(ranker, split, weights, seed)]

    with parallel(n_jobs):
        results = joblib.Parallel(return_as="generator")(joblib.delayed(work)(*job) for job in jobs) if n_jobs != 1 else (work(*j) for j in jobs)
        rows = [row for part in tqdm(results, total=len(jobs), disable=not progress, desc=protocol) for row in part]
    return pd.DataFrame(rows)


def summarise(results: pd.DataFrame, by: Sequence[str] = ("protocol", "ranker"), value: str = "tau", group: str = "soc") -> pd.DataFrame:
    """Mean of a metric with its bootstrap interval over groups; seeds and priorities are averaged first."""
    means = results.groupby([*by, group, "query"], dropna=False)[value].mean().reset_index()
    rows = [dict(zip(by, key if isinstance(key, tuple) else (key,))) | dict(zip(("mean", "low", "high"), bootstrap_interval(g[value], g[group])))
            | {"groups": g[group].nunique(), "queries": len(g)} for key, g in means.groupby(list(by), sort=False)]
    return pd.DataFrame(rows)


def noise_ceiling(query: Query, priorities: Priorities, draws: int = 20, seed: int = 0) -> float:
    """Mean weighted tau between a query's truth and the truth of a repeated measurement (:meth:`Query.again`)."""
    rng = np.random.default_rng([seed, zlib.crc32(query.name.encode())])
    truth = query.truth(priorities).scores
    return float(np.mean([weighted_tau(truth, query.again(rng).truth(priorities).scores) for _ in range(draws)]))


def best_other_board(queries: Sequence[Query], cover: float = 0.9) -> pd.DataFrame:
    """What the latencies of one other board reach at best, chosen with hindsight: a bound, not a ranker.

    Boards of other chips with the same processor that measured at least ``cover`` of the candidates; what is missing
    takes their mean. Queries for which there is none are left out.

    Returns
    -------
    DataFrame
        ``soc, processor, tau`` (weighted tau of the latency order), one row a query.
    """
    figures = [np.log10(pd.concat([q.candidates[VARIANT], q.values["latency_ms"]], axis=1).drop_duplicates(VARIANT).set_index(VARIANT)["latency_ms"]) for q in queries]
    rows = []
    for q in queries:
        truth, wanted = q.truth({"latency": 1}).scores, pd.MultiIndex.from_frame(q.candidates[VARIANT])
        others = [f.reindex(wanted) for f, o in zip(figures, queries) if o.soc != q.soc and o.platform.processor == q.platform.processor]
        taus = [weighted_tau(truth, -o.fillna(o.mean())) for o in others if o.notna().mean() >= cover]
        if taus:
            rows.append({"soc": q.soc, "processor": q.platform.processor, "tau": max(taus)})
    return pd.DataFrame(rows, columns=["soc", "processor", "tau"])
