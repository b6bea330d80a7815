"""From candidates to one choice: hard constraints, rules beside Copeland, what each rule costs a simulated user."""
from __future__ import annotations

from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd
from sklearn.preprocessing import minmax_scale, normalize

from lib.benchmark import Benchmark, Platform, Query
from lib.evaluation import splits
from lib.metrics import METRICS, check_priorities
from lib.priorities import cells, opinions, scores

Rule = Callable[[Query, Sequence[str], np.ndarray], np.ndarray]
SYSTEM = r"^(.*?system [^;,]+)"  # at the start of a note of mlperf_tiny


def feasible(query: Query, limits: Mapping[str, float]) -> np.ndarray:
    """(n,) bool: candidates within hard limits: at most (accuracy: at least) so much, in the metric's unit.

    A figure that nobody measured does not prove that a candidate fits: it is left out. ValueError for an unknown
    metric, or one that nobody measured on this platform.
    """
    check_priorities({"accuracy": 1} | dict.fromkeys(limits, 1))
    keep = np.ones(len(query), bool)
    for name, limit in limits.items():
        if name not in query.metrics:
            raise ValueError(f"{query.name}: a limit on '{name}', which was not measured")
        m = METRICS[name]
        keep &= (m.direction * query.values[m.column] >= m.direction * limit).to_numpy(bool)
    return keep


class Preset(NamedTuple):
    """Limits that a use sets, and weights of the metrics in which better than the limit is still worth something."""

    limits: dict[str, float]
    weights: dict[str, int]


def presets(query: Query, fps: float, joules: float, inferences: float, small: tuple[float, float],
            power_mw: float | None = None) -> dict[str, Preset]:
    """Four uses of a board as limits in ms, KiB and microjoules, each derived from what the use states.

    Parameters
    ----------
    fps : frames a second of a camera: the deadline.
    joules, inferences : energy of a battery and what it must last for.
    small : RAM and flash of a cheaper part, KiB.
    power_mw : published power of the same chip; makes the energy budget a time where energy was not measured.

    Limits on metrics that were not measured are left out, and so are uses that need an unknown figure or pictures.
    """
    parts = {"memory": "ram_mib", "storage": "flash_mib"}  # 0 or not stated: external memory, no limit
    board = {m: 1024 * float(query.specs[part]) for m, part in parts.items() if query.specs.get(part)}
    budget = 1e6 * joules / inferences  # microjoules
    spend = {"energy": budget} if "energy" in query.metrics else {"latency": budget / power_mw} if power_mw else {}
    uses = {  # faster than the frame is worth nothing; what is saved lasts longer; a part is paid, full or not
        "real-time camera": Preset({**board, "latency": 1000 / fps}, {"accuracy": 1}),
        "battery sensor": Preset({**board, **spend}, {"accuracy": 1, **dict.fromkeys(spend, 1)}),
        "cheapest part": Preset(dict(zip(("memory", "storage"), small)), {"accuracy": 1}),
        "best quality": Preset({**board, "latency": 1000.0}, {"accuracy": 1}),
    }
    silent = any(word in query.task for word in ("audio", "keyword", "activity", "anomaly", "afd"))  # no pictures
    known = {"real-time camera": not silent, "battery sensor": spend, "cheapest part": "memory" in query.metrics}
    return {name: Preset({m: x for m, x in use.limits.items() if m in query.metrics}, use.weights)
            for name, use in uses.items() if known.get(name, True)}


def cost(query: Query, metrics: Sequence[str], first: np.ndarray) -> dict[str, float]:
    """What candidates ``first`` (n,) bool give away: accuracy points below the best, other metrics as log2 of the
    multiple of the least. NaN where their figure is unknown."""
    figures = {m: query.values[METRICS[m].column] for m in metrics}
    return {m: x.max() - x[first].mean() if m == "accuracy" else np.log2(x[first] / x.min()).mean()
            for m, x in figures.items()}


# ------------------------------------------------------------------------------------------------ rules

def turned(query: Query, metrics: Sequence[str], log: bool = False) -> np.ndarray:
    """(V, n) figures turned so that more is better; an unknown one is as bad as the worst of the query."""
    x = pd.DataFrame({m: query.values[METRICS[m].column].astype(float) for m in metrics})
    x = x.apply(lambda row: METRICS[row.name].direction * (np.log(row) if log and row.name != "accuracy" else row))
    return x.fillna(x.min()).to_numpy().T


def weighted_sum(query: Query, metrics: Sequence[str], weights: np.ndarray, log: bool = False) -> np.ndarray:
    """Each metric scaled from 0 (worst of the query) to 1 (best), then summed."""
    return np.asarray(weights, float) @ minmax_scale(turned(query, metrics, log), axis=1)


def topsis(query: Query, metrics: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Distance from the worst point over distances from the worst and the ideal one (Hwang and Yoon, 1981)."""
    x, w = normalize(turned(query, metrics)), np.asarray(weights, float)[:, :, None]
    best, worst = (np.sqrt(((w * (x - end[:, None])) ** 2).sum(1)) for end in (x.max(1), x.min(1)))
    return np.where(best + worst > 0, worst / np.maximum(best + worst, 1e-300), 0.5)


def lexicographic(query: Query, metrics: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Keep whoever is within the threshold of the best in the heaviest metric, then in the next, and so on.

    The score falls from round to round of removal. Metrics of equal weight come in the given order.
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
    "Sum": weighted_sum,
    "Log sum": lambda q, metrics, w: weighted_sum(q, metrics, w, log=True),
    "TOPSIS": topsis,
    "Lexicographic": lexicographic,
}


def choices(rule: str, query: Query, metrics: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """(F, n) bool: the first candidates of a rule under each row of weights (F, V)."""
    table = RULES[rule](query, metrics, np.atleast_2d(weights))
    return np.isclose(table, table.max(1, keepdims=True), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------ simulated users

def _trade_off(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    rates = 2.0 ** (6 * draws[:, 1:] - 3)  # 1/8 to 8 accuracy points for each doubling
    return turned(q, metrics[:1])[0] + rates @ (turned(q, metrics, log=True)[1:] / np.log(2))


def _linear(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    rates, x = 2.0 ** (6 * draws[:, 1:] - 3), turned(q, metrics)  # points for each time the query's median
    return x[0] + rates @ (x[1:] / np.abs(np.median(x[1:], axis=1, keepdims=True)))


def _limited(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    x = turned(q, metrics)
    limits = np.array([np.quantile(row, 0.8 * d) for row, d in zip(x[1:], draws[:, 1:].T)])  # (V - 1, U)
    return np.where((x[1:, None] >= limits[:, :, None]).all(0), x[0], x[0].min() - 1e-9)


def _balanced(q: Query, metrics: Sequence[str], draws: np.ndarray) -> np.ndarray:
    places = np.array([pd.Series(-row).rank(pct=True).to_numpy() for row in turned(q, metrics)])
    return -(draws[:, :, None] * places[None]).max(1)


#: What a user is after -> utility (U, n) of the candidates for U users; ``draws`` (U, V) uniform, accuracy first.
USERS: dict[str, Callable[[Query, Sequence[str], np.ndarray], np.ndarray]] = {
    "points per doubling": _trade_off,  # accuracy less a number of points for each doubling of a cost
    "points per unit": _linear,  # accuracy less a number of points for each multiple of the query's median cost
    "hard limits": _limited,  # the most accurate within limits of their own; what does not fit is worth nothing
    "no weak side": _balanced,  # the worst weighted place among all metrics counts
}


def held_out_regret(queries: Sequence[Query], metrics: Sequence[str], count: int = 20, protocol: str = "unseen_both",
                    n_folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """What rules cost users whose weights were fitted, per rule, to their choices in other queries.

    A rule's weights mean what the rule makes of them, so none is judged under weights made for another: for each
    user and rule, those weights are taken (all faces of the simplex, and a grid in tenths) that lose the user least
    on the training queries of a fold (other chips and data sets by default). Then its test queries are judged.

    Returns
    -------
    DataFrame
        One row per rule, kind of user and query: mean ``regret`` of its users, 0 (best candidate) to 1 (worst),
        under the fitted weights, and ``equal`` under equal ones; with ``source, soc, parent, n``.
    """
    v = len(metrics)
    tenths = np.array([p for p in np.ndindex(*(11,) * v) if sum(p) == 10])
    weights = np.unique(np.vstack([cells(v).points, tenths]), axis=0)
    equal = int(np.flatnonzero((weights == 1).all(1))[0])
    draws = {kind: np.random.default_rng([seed, k]).random((count, v)) for k, kind in enumerate(USERS)}
    losses: dict[tuple[str, str], list[np.ndarray]] = {(r, k): [] for r in RULES for k in USERS}
    for q in queries:
        wanted = {kind: utility(q, metrics, draws[kind]) for kind, utility in USERS.items()}
        for rule in RULES:
            pick = choices(rule, q, metrics, weights)
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

def energy_runs(benchmark: Benchmark) -> pd.DataFrame:
    """MLPerf Tiny runs with a measured energy; adds ``system`` (round, submitter, system), ``volts``, ``soc``.

    Also ``power`` (mW), energy over latency: what the system draws on average during an inference.
    """
    m = benchmark.measurements
    m = m[m["source"].eq("mlperf_tiny") & ~m["excluded"] & m["energy_uj"].notna()]
    stated = m["note"].fillna("") + " " + m["power_mode"].fillna("")
    logged = stated.str.extract(r"energy-run supply (\d+) mV")[0].astype(float) / 1000
    soc = m["device_id"].map(benchmark.devices.set_index("device_id")["soc_group"]).fillna(m["device_id"])
    return m.assign(system=m["note"].str.extract(SYSTEM)[0], soc=soc, power=m["energy_uj"] / m["latency_ms"],
                    volts=logged.fillna(stated.str.extract(r"(\d(?:\.\d)?) ?V\b")[0].astype(float)))


def energy_queries(benchmark: Benchmark, volts: float = 1.8) -> list[Query]:
    """MLPerf Tiny tasks with measured energy: one query a task, its candidates are systems (board, runtime, clock).

    Each task has one reference network, so systems are what can be chosen. Energies are comparable at one supply
    voltage only; of several rounds the newest counts.
    """
    m, a = energy_runs(benchmark), benchmark.accuracies
    kind = np.where(a["task_type"].eq("anomaly_detection"), "auc", "top1")
    a = a[a["source"].eq("mlperf_tiny") & ~a["excluded"] & a["device_id"].notna() & a["metric"].eq(kind)]
    a = a.assign(system=a["note"].str.extract(SYSTEM)[0], accuracy=a["value"].where(a["metric"].eq("top1"), 100 * a["value"]))
    a = a[["system", "task", "model_id", "accuracy", "metric"]].drop_duplicates(["system", "task", "model_id"])
    table = m[m["volts"].eq(volts)].merge(a, on=["system", "task", "model_id"]).sort_values("date", ascending=False)
    table = table.drop_duplicates(["task", "device_id", "runtime", "clock_mhz"]).sort_values(["task", "energy_uj"])
    out = []
    for task, rows in table.assign(memory_kib=np.nan, storage_kib=np.nan).groupby("task"):
        rows = rows.reset_index(drop=True)
        names = rows["device_id"] + " " + rows["runtime"] + " " + rows["clock_mhz"].map("{:.0f} MHz".format)
        traits = {"model_id": names, "family": names, "pretrain_dataset": "", "training": ""}
        candidates = rows[["precision", "input_shape"]].assign(**traits)
        out.append(Query("energy", "mlperf_tiny", task, Platform("any", "mcu", "any"), task, task, candidates,
                         rows[[m.column for m in METRICS.values()]], {}, accuracy_metric=rows["metric"].iloc[0]))
    return out
