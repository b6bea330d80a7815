"""What a ranker has to beat: counts of operations and parameters, means over other boards, neighbours, boosted trees."""
from __future__ import annotations

import zlib
from typing import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor

from lib.benchmark import VARIANT, Query, platform_queries, task_queries
from lib.expected import SPREAD, combine, log_ties
from lib.metrics import HARDWARE, METRICS
from lib.tokens import hardware_numbers, hardware_words, ptm_numbers, HARDWARE_NUMBERS

PTM = VARIANT + ["pretrain_dataset", "training"]
PERCENTILE = 0.15  # standard deviation of a predicted percentile


class Flops:
    """Fewest multiply-accumulates first; needs no training."""

    column = "macs_m"

    def fit(self, queries: Sequence[Query]) -> "Flops":
        """Nothing to learn."""
        return self

    def score(self, query: Query, priorities: Mapping[str, object]) -> np.ndarray:
        """(n,); an unknown count ranks last."""
        counts = query.candidates[self.column].to_numpy(float)
        return np.where(np.isnan(counts), -np.inf, -counts).clip(-1e12)


class Parameters(Flops):
    """Fewest parameters first."""

    column = "params_m"


class RandomRanker(Flops):
    """A random order, the same for the same query and seed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, query: Query, priorities: Mapping[str, object]) -> np.ndarray:
        return np.random.default_rng([self.seed, zlib.crc32(query.name.encode())]).random(len(query))


def _means(rows: pd.DataFrame) -> list[pd.Series]:
    """Mean of ``value`` per PTM, per variant, per architecture, per family: the finest known one answers."""
    return [rows.groupby(keys, dropna=False)["value"].mean() for keys in (PTM, VARIANT, ["model_id"], ["family"])]


def _look_up(means: Sequence[pd.Series], candidates: pd.DataFrame, default: float = 0.5) -> np.ndarray:
    out = np.full(len(candidates), np.nan)
    for mean in means:
        keys = list(mean.index.names)
        index = pd.MultiIndex.from_frame(candidates[keys]) if len(keys) > 1 else pd.Index(candidates[keys[0]])
        out = np.where(np.isnan(out), mean.reindex(index).to_numpy(float), out)
    return np.where(np.isnan(out), default, out)


def _percentiles(values: np.ndarray) -> np.ndarray:
    return pd.Series(values).rank(pct=True).to_numpy()


class MeanRank:
    """Mean rank of the same PTM over the training queries, each metric apart, combined under the priorities."""

    def fit(self, queries: Sequence[Query]) -> "MeanRank":
        """Average percentile ranks per metric."""
        self.means = {}
        for metric in METRICS.values():
            sample = task_queries(queries) if metric.name == "accuracy" else platform_queries(queries)
            rows = [q.candidates.assign(value=_percentiles(metric.direction * q.values[metric.column]))
                    for q in sample if metric.name in q.metrics]
            if rows:
                self.means[metric.name] = _means(pd.concat(rows).dropna(subset=["value"]))
        return self

    def votes(self, query: Query) -> dict[str, np.ndarray]:
        """Mean percentile rank per metric, (n,) each."""
        return {m: _look_up(means, query.candidates) for m, means in self.means.items()}

    def score(self, query: Query, priorities: Mapping[str, object]) -> np.ndarray:
        """(n,) expected Copeland scores."""
        return combine(self.votes(query), priorities, dict.fromkeys(METRICS, PERCENTILE))


def distance(a: Mapping[str, float | str], b: Mapping[str, float | str]) -> float:
    """Gower-style distance of two data sheets: mean over the fields that both state (numbers: decades apart, at most 1)."""
    x, y = hardware_numbers(a), hardware_numbers(b)
    parts = [min(1.0, abs(x[f] - y[f])) for f in x.keys() & y.keys()]
    u, v = set(hardware_words(a)), set(hardware_words(b))
    fields = {w.split("=")[0] for w in u} & {w.split("=")[0] for w in v}
    for f in fields:
        one, two = ({w for w in s if w.startswith(f + "=")} for s in (u, v))
        parts.append(1 - len(one & two) / len(one | two))
    return float(np.mean(parts)) if parts else 1.0


class NearestDevice(MeanRank):
    """Hardware metrics of the nearest board by data sheet; accuracy and unmeasured variants by the mean rank."""

    def fit(self, queries: Sequence[Query]) -> "NearestDevice":
        """Keep every platform's figures."""
        super().fit(queries)
        self.platforms = platform_queries(queries)
        return self

    def votes(self, query: Query) -> dict[str, np.ndarray]:
        """Percentile ranks on the nearest platform that measured at least half of the candidates."""
        votes = super().votes(query)
        for _, platform in sorted(((distance(query.specs, p.specs), i), p) for i, p in enumerate(self.platforms)):
            table = pd.concat([platform.candidates[VARIANT], platform.values], axis=1).set_index(VARIANT)
            found = table.reindex(pd.MultiIndex.from_frame(query.candidates[VARIANT]))
            if found["latency_ms"].notna().mean() >= 0.5:
                for m in HARDWARE:
                    ranks = _percentiles(-found[METRICS[m].column])
                    if np.isfinite(ranks).any():
                        votes[m] = np.where(np.isnan(ranks), votes.get(m, 0.5), ranks)
                break
        return votes


class BoostedTrees:
    """Gradient-boosted trees on the same traits and specifications, one per metric, combined like Shadow's votes."""

    def __init__(self, seed: int = 0, components: int = 8, iterations: int = 200) -> None:
        self.seed, self.components, self.iterations = seed, components, iterations

    def _features(self, query: Query, task: bool) -> np.ndarray:
        words = query.candidates[["family", "architecture", "precision", "pretrain_dataset"]]
        codes = np.stack([words[c].map(self.codes[c]).to_numpy(float) for c in words], axis=1)
        if task:
            side = self._task(query)
        else:
            numbers, known = hardware_numbers(query.specs), set(hardware_words(query.specs))
            side = np.array([numbers.get(f, np.nan) for f in HARDWARE_NUMBERS] + [float(w in known) for w in self.words])
        return np.hstack([codes, ptm_numbers(query), np.tile(side, (len(query), 1))])

    def _task(self, query: Query) -> np.ndarray:
        names = query.prototypes.get("names", np.zeros((0, 384)))
        if not len(names) or self.pca is None:
            return np.full(self.components + 1, np.nan)
        return np.append(self.pca.transform(names.mean(0, keepdims=True))[0], np.log10(len(names)))

    def fit(self, queries: Sequence[Query]) -> "BoostedTrees":
        """One regressor a metric: log10 of the hardware metrics, percentile of accuracy within its task."""
        names = ["family", "architecture", "precision", "pretrain_dataset"]
        self.codes = {c: {} for c in names}
        for c in names:  # at most 250 categories: the most frequent keep a code
            frequent = pd.concat([q.candidates[c] for q in queries]).value_counts().index[:250]
            self.codes[c] = {w: i for i, w in enumerate(sorted(map(str, frequent)))}
        self.words = sorted({w for q in queries for w in hardware_words(q.specs)})
        means = [q.prototypes["names"].mean(0) for q in task_queries(queries) if len(q.prototypes.get("names", ()))]
        enough = len(means) > self.components
        self.pca = PCA(self.components, random_state=self.seed).fit(np.stack(means)) if enough else None
        self.models = {}
        for metric in METRICS.values():
            task = metric.name == "accuracy"
            sample = [q for q in (task_queries if task else platform_queries)(queries) if metric.name in q.metrics]
            if not sample:
                continue
            y = np.concatenate([_percentiles(q.values[metric.column]) if task else np.log10(q.values[metric.column]) for q in sample])
            X = np.concatenate([self._features(q, task) for q in sample])
            known = np.isfinite(y)
            stated = np.isfinite(X[known]).any(0)  # a column that is empty in training has no bins
            self.models[metric.name] = stated, HistGradientBoostingRegressor(
                max_iter=self.iterations, learning_rate=0.1, min_samples_leaf=5, random_state=self.seed,
                categorical_features=list(range(int(stated[: len(names)].sum()))),
            ).fit(X[known][:, stated], y[known])
        return self

    def votes(self, query: Query) -> dict[str, np.ndarray]:
        """log10 of the hardware metrics and the accuracy percentile, larger = better, (n,) each."""
        return {m: METRICS[m].direction * model.predict(self._features(query, m == "accuracy")[:, stated])
                for m, (stated, model) in self.models.items()}

    def score(self, query: Query, priorities: Mapping[str, object]) -> np.ndarray:
        """(n,) expected Copeland scores."""
        return combine(self.votes(query), priorities, SPREAD | {"accuracy": PERCENTILE}, log_ties(query))


#: Name -> factory taking a seed.
BASELINES: dict[str, Callable[[int], object]] = {
    "Boosted trees": lambda seed: BoostedTrees(seed=seed),
    "Nearest device": lambda seed: NearestDevice(),
    "Mean rank": lambda seed: MeanRank(),
    "FLOPs": lambda seed: Flops(),
    "Parameters": lambda seed: Parameters(),
    "Random": lambda seed: RandomRanker(seed),
}
