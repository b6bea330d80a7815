"""From candidates to one choice: hard constraints, rules beside Copeland, and what each rule costs a simulated user."""
from __future__ import annotations

from typing import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.benchmark import Benchmark, Platform, Query
from lib.evaluation import splits
from lib.metrics import METRICS, check_priorities
from lib.priorities import cells, opinions, scores

Rule = Callable[[Query, Sequence[str], np.ndarray], np.ndarray]


def feasible(query: Query, limits: Mapping[str, float]) -> np.ndarray:
    """(n,) bool: candidates within hard limits, at most (accuracy: at least) the given figure in the metric's unit.

    A figure that nobody measured does not prove that a candidate fits: it is left out. ValueError for an unknown
    metric, or one that nobody measured on this platform.
    """
    check_priorities({"accuracy": 1, **{name: 1 for name in limits}})
    keep = np.ones(len(query), bool)
    for name, limit in limits.items():
        if name not in query.metrics:
            raise ValueError(f"{query.name}: a limit on '{name}', which was not measured")
        m = METRICS[name]
        keep &= (m.direction * query.values[m.column] >= m.direction * limit).to_numpy(bool)
    return keep


# ------------------------------------------------------------------------------------------------ rules

def turned(query: Query, metrics: Sequence[str], log: bool = False) -> np.ndarray:
    """(V, n) figures turned so that more is better; an unknown one is as bad as the worst of the query."""
    rows = []
    for m in (METRICS[name] for name in metrics):
        x = query.values[m.column].to_numpy(float)
        x = m.direction * (np.log(x) if log and m.direction < 0 else x)
        rows.append(np.where(np.isnan(x), np.nanmin(x), x))
    return np.array(rows)


def weighted_sum(query: Query, metrics: Sequence[str], weights: np.ndarray, log: bool = False) -> np.ndarray:
    """Each metric scaled from 0 (worst of the query) to 1 (best), then summed."""
    x = turned(query, metrics, log)
    low, span = x.min(1, keepdims=True), np.ptp(x, axis=1, keepdims=True)
    return np.asarray(weights, float) @ np.where(span > 0, (x - low) / np.where(span > 0, span, 1), 1.0)


def topsis(query: Query, metrics: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Distance from the worst point over distances from the worst and the ideal one (Hwang and Yoon, 1981)."""
    x, w = turned(query, metrics), np.asarray(weights, float)[:, :, None]
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    best, worst = (np.sqrt(((w * (x - end[:, None])) ** 2).sum(1)) for end in (x.max(1), x.min(1)))
    return np.where(best + worst > 0, worst / np.maximum(best + worst, 1e-300), 0.5)


def lexicographic(query: Query, metrics: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Keep whoever is within the threshold of the best in the heaviest metric, then in the next; removed last = best.

    Metrics of equal weight come in the given order; one of weight 0 has no say.
    """
    votes, out, done = opinions(query, metrics), [], {}
    known = np.array([query.values[METRICS[m].column].notna() for m in metrics])
    for w in np.asarray(weights, float):
        order = tuple(np.argsort(-w, kind="stable")[: np.count_nonzero(w)])
        if order not in done:
            score, left = np.zeros(len(query)), np.ones(len(query), bool)
            for level in range(len(query), 0, -1):
                kept = left.copy()
                for m in order:
                    rivals = kept & known[m]
                    kept = rivals & ~(votes[m][rivals] > 0).any(0) if rivals.any() else kept
                score[kept], left = level, left & ~kept
                if not left.any():
                    break
            done[order] = score
        out.append(done[order])
    return np.array(out)


#: Rule -> scores (F, n) of a query's candidates, higher is better, for whole weights (F, V) on some metrics.
RULES: dict[str, Rule] = {
    "Copeland": lambda q, metrics, w: scores(opinions(q, metrics), w),
    "Weighted sum": weighted_sum,
    "Weighted sum of logs": lambda q, metrics, w: weighted_sum(q, metrics, w, log=True),
    "TOPSIS": topsis,
    "Lexicographic": lexicographic,
}


# ------------------------------------------------------------------------------------------------ simulated users

def _trade_off(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    rates = 2.0 ** (6 * draws[:, 1:] - 3)  # 1/8 to 8 accuracy points for each doubling
    logs = np.nan_to_num(turned(q, metrics, log=True)[1:] / np.log(2))
    return turned(q, metrics[:1])[0] + rates @ logs


def _linear(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    rates, x = 2.0 ** (6 * draws[:, 1:] - 3), turned(q, metrics)  # points for each time the query's median
    return x[0] + rates @ (x[1:] / np.abs(np.median(x[1:], axis=1, keepdims=True)))


def _deadline(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    x = turned(q, metrics)
    limits = np.array([np.quantile(row, 0.8 * d) for row, d in zip(x[1:], draws[:, 1:].T)])  # (V - 1, U)
    fits = (x[1:, None] >= limits[:, :, None]).all(0)
    return np.where(fits, x[0], x[0].min() - 1e-9)


def _balanced(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    places = np.array([pd.Series(-row).rank(pct=True).to_numpy() for row in turned(q, metrics)])
    return -(draws[:, :, None] * places[None]).max(1)


#: What a user is after -> utility (U, n) of the candidates for U users; ``draws`` (U, V) uniform, the first for accuracy.
USERS: dict[str, Callable[[Query, Sequence[str], np.ndarray], np.ndarray]] = {
    "points per doubling": _trade_off,  # accuracy less a number of points for each doubling of a cost
    "points per unit": _linear,  # accuracy less a number of points for each multiple of the query's median cost
    "hard limits": _deadline,  # the most accurate within limits of their own; what does not fit is worth nothing
    "no weak side": _balanced,  # the worst weighted place among all metrics counts
}


def held_out_regret(queries: Sequence[Query], metrics: Sequence[str], count: int = 20, protocol: str = "unseen_both",
                    n_folds: int = 5, seed: int = 0, rules: Mapping[str, Rule] = RULES) -> pd.DataFrame:
    """What rules cost users whose weights were fitted, per rule, to their choices in other queries.

    A rule's weights mean what the rule makes of them, so none is compared under weights made for another: for each user
    and rule, those weights are taken (all faces of the simplex, and a grid in tenths) that lose the user least on the
    training queries of a protocol's fold (other chips and other data sets by default). Then its test queries are judged.

    Returns
    -------
    DataFrame
        One row per rule, kind of user and query: mean ``regret`` of its users, 0 (best candidate) to 1 (worst), under
        the fitted weights, and ``equal`` under equal ones; with ``source, soc, parent, n``.
    """
    v = len(metrics)
    tenths = np.array([p for p in np.ndindex(*(11,) * v) if sum(p) == 10])
    weights = np.unique(np.vstack([np.ones((1, v), int), cells(v).points, tenths]), axis=0)
    equal = int(np.flatnonzero((weights == 1).all(1))[0])
    draws = {kind: np.random.default_rng([seed, k]).random((count, v)) for k, kind in enumerate(USERS)}
    losses: dict[tuple[str, str], list[np.ndarray]] = {(r, k): [] for r in rules for k in USERS}
    for q in queries:
        wanted = {kind: USERS[kind](q, metrics, draws[kind]) for kind in USERS}
        for rule in rules:
            table = rules[rule](q, metrics, weights)
            pick = np.isclose(table, table.max(1, keepdims=True), rtol=1e-12, atol=1e-12)
            pick = pick / pick.sum(1, keepdims=True)  # a tie is broken by lot
            for kind, u in wanted.items():
                span = np.ptp(u, axis=1, keepdims=True)
                losses[rule, kind].append((u.max(1, keepdims=True) - u @ pick.T) / np.where(span > 0, span, np.inf))
    place, rows = {id(q): i for i, q in enumerate(queries)}, []
    for split in splits(queries, protocol, n_folds):
        train, test = ([place[id(q)] for q in part] for part in (split.train, split.test))
        for (rule, kind), table in losses.items():
            best = np.mean([table[i] for i in train], axis=0).argmin(1)
            rows += [{"rule": rule, "users": kind, "regret": table[i][np.arange(count), best].mean(),
                      "equal": table[i][:, equal].mean(), "source": queries[i].source, "soc": queries[i].soc,
                      "parent": queries[i].parent, "n": len(queries[i])} for i in test]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ energy

def energy_queries(benchmark: Benchmark, millivolts: int = 1800) -> list[Query]:
    """MLPerf Tiny tasks with measured energy, one query a task whose candidates are systems (board, runtime, clock).

    Each task has one reference network, so systems are what can be chosen. Energies are comparable at one supply voltage
    only; of several rounds the newest counts.
    """
    key = r"^(.*?system [^;,]+)"
    m, a = (t[t["source"].eq("mlperf_tiny") & ~t["excluded"]] for t in (benchmark.measurements, benchmark.accuracies))
    stated = m["note"].fillna("") + " " + m["power_mode"].fillna("")
    volts = (stated.str.extract(r"energy-run supply (\d+) mV")[0].astype(float)
             .fillna(stated.str.extract(r"(\d(?:\.\d)?) ?V\b")[0].astype(float) * 1000))
    m = m[m["energy_uj"].notna() & volts.eq(millivolts)].assign(system=m["note"].str.extract(key)[0])
    a = a[a["metric"].isin(["top1", "auc"]) & a["device_id"].notna()].assign(system=a["note"].str.extract(key)[0])
    a = a[~a["task"].str.startswith("anomaly") | a["metric"].eq("auc")].drop_duplicates(["system", "task", "model_id"])
    table = m.merge(a[["system", "task", "model_id", "value", "metric"]], on=["system", "task", "model_id"])
    table = table.sort_values("date", ascending=False, kind="stable").drop_duplicates(["task", "device_id", "runtime", "clock_mhz"])
    out = []
    for task, rows in table.sort_values(["task", "energy_uj"]).groupby("task"):
        names = rows["device_id"] + " " + rows["runtime"] + " " + rows["clock_mhz"].map("{:.0f} MHz".format)
        candidates = pd.DataFrame({"model_id": names, "pretrain_dataset": rows["dataset"], "training": "", "input_shape": "",
                                   "precision": rows["precision"], "family": rows["device_id"]}).reset_index(drop=True)
        values = rows.assign(accuracy=rows["value"] * np.where(rows["metric"].eq("auc"), 100, 1), memory_kib=np.nan,
                             storage_kib=np.nan)[[m.column for m in METRICS.values()]].reset_index(drop=True)
        out.append(Query("energy", "mlperf_tiny", task, Platform("any", "mcu", "any"), task, task, candidates, values, {},
                         accuracy_metric=rows["metric"].iloc[0]))
    return out
