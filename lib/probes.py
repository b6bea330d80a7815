"""What the tokens carry: distances between tasks, and linear read-outs of hardware tokens, set against measurements.

A probe is a linear model on a frozen representation (Alain and Bengio, 2016): what it reads out there is there.
Mantel's test (1967) compares two tables of distances between the same things by permuting the things of one table.
"""
from __future__ import annotations

from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from lib.benchmark import Benchmark, Query, Suite, build_queries, platform_queries
from lib.shadow import HardwareRanker
from lib.tokens import HARDWARE_NUMBERS, HARDWARE_WORDS, encode, hardware_numbers, hardware_words


def task_distances(prototypes: Sequence[np.ndarray]) -> np.ndarray:
    """(T, T) between sets of unit vectors: mean cosine distance of a class to the nearest one of the other task."""
    one_way = np.array([[1 - (a @ b.T).max(1).mean() for b in prototypes] for a in prototypes])
    return (one_way + one_way.T) / 2


class Mantel(NamedTuple):
    """Rank correlation of two tables of distances, one-sided p, and what 19 of 20 permutations stay below."""

    rho: float
    p: float
    chance: float


def mantel(a: np.ndarray, b: np.ndarray, draws: int = 2000, seed: int = 0) -> Mantel:
    """Spearman's rho over the pairs of two symmetric tables (n, n)."""
    rows, columns = np.triu_indices(len(a), 1)
    ranks, other = np.zeros_like(a, float), rankdata(b[rows, columns])
    ranks[rows, columns] = ranks[columns, rows] = rankdata(a[rows, columns])
    rng, orders = np.random.default_rng(seed), [np.arange(len(a))]
    orders += [rng.permutation(len(a)) for _ in range(draws)]
    rho = np.array([np.corrcoef(ranks[o[rows], o[columns]], other)[0, 1] for o in orders])
    return Mantel(float(rho[0]), float((rho >= rho[0] - 1e-12).mean()), float(np.quantile(rho[1:], 0.95)))


def platforms(benchmark: Benchmark, most: int = 40, least: int = 3) -> list[Query]:
    """Every platform of every source with at least `least` latencies of networks of known MACs; at most `most` of them."""
    sources = sorted(set(benchmark.measurements["source"]) - {"model_traits"})
    found = platform_queries(build_queries(benchmark, Suite("probe", "every platform", tuple(sources), (), "none")))
    found = [q.subset(np.flatnonzero(q.candidates["macs_m"].to_numpy(float) > 0)) for q in found]
    return [q.subset(np.linspace(0, len(q) - 1, min(len(q), most)).round().astype(int)) for q in found if len(q) >= least]


def kind_of(query: Query) -> str:
    """Class of a platform as a page names it."""
    processors = {"gpu": "GPU", "npu": "NPU", "dsp": "other", "fpga": "other", "mixed": "other"}
    devices = {"mcu": "MCU", "automotive": "MCU", "sbc": "board CPU", "mpu": "board CPU", "phone": "phone CPU"}
    return processors.get(query.platform.processor) or devices.get(query.specs.get("device_class"), "PC CPU")


def latency_scale(queries: Sequence[Query], rounds: int = 50, shrink: float = 3.0) -> np.ndarray:
    """How slow each platform is, (n,): mean log10 of milliseconds per GMAC, net of what each network costs everywhere.

    Networks are drawn towards zero (as if seen `shrink` times there): sources that share few of them stand on one scale.
    """
    table = pd.concat([pd.DataFrame({"platform": i, "network": q.candidates["model_id"], "y": np.log10(
        1e3 * q.values["latency_ms"] / q.candidates["macs_m"])}) for i, q in enumerate(queries)])
    network = pd.Series(0.0, index=table["network"].unique())
    for _ in range(rounds):
        scale = (table["y"] - table["network"].map(network)).groupby(table["platform"]).mean()
        rest = (table["y"] - table["platform"].map(scale)).groupby(table["network"])
        network = rest.sum() / (rest.size() + shrink)
    return scale.to_numpy()


def specification_table(queries: Sequence[Query], numbers: Sequence[str] = HARDWARE_NUMBERS,
                        words: Sequence[str] = HARDWARE_WORDS) -> np.ndarray:
    """Raw specifications (n, features): log numbers (mean where not stated), which are stated, one-hot words."""
    said = [(hardware_numbers(q.specs), {w for w in hardware_words(q.specs) if w.split("=")[0] in words}) for q in queries]
    x = np.array([[stated.get(f, np.nan) for f in numbers] for stated, _ in said]).reshape(len(queries), -1)
    known = np.isfinite(x)
    mean = np.where(known, x, 0).sum(0) / known.sum(0).clip(1)
    vocabulary = sorted(set().union(*(w for _, w in said)))
    return np.hstack([np.where(known, x, mean), known, [[w in some for w in vocabulary] for _, some in said]])


def pooled_tokens(ranker: HardwareRanker, queries: Sequence[Query]) -> np.ndarray:
    """Ψh of each platform, (n, dim): mean of its hardware tokens."""
    with torch.inference_mode():
        tokens, mask = ranker.module.hardware(encode(queries, ranker.vocabulary))
    return ((tokens * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)).numpy()


def held_out(queries: Sequence[Query], target: np.ndarray, extractors: Mapping[str, Callable[[list[Query]], np.ndarray]],
             folds: int = 5, seed: int = 0) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Read `target` (n,) out of representations by ridge regression, for chips that neither probe nor extractor saw.

    An extractor takes training queries and gives (n, d) features. Returned are predictions (n, extractors) and, for each
    extractor, the cosine distances (n, n) of each platform to all others in the fold that held it out.
    """
    found, far = ({name: np.empty((len(queries),) * d) for name in extractors} for d in (1, 2))
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(target, groups=[q.soc for q in queries]):
        for name, extract in extractors.items():
            x = extract([queries[i] for i in train])
            probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(x[train], target[train])
            found[name][test], z = probe.predict(x[test]), normalize(probe[0].transform(x))
            far[name][test] = 1 - z[test] @ z.T
    return pd.DataFrame(found), far


def nearest(distances: np.ndarray, queries: Sequence[Query], k: int = 3) -> np.ndarray:
    """(n, k) nearest platforms with another chip, each chip once."""
    chips, out = np.array([q.soc for q in queries]), np.empty((len(queries), k), int)
    for i, order in enumerate(distances.argsort(1, kind="stable")):
        others = order[chips[order] != chips[i]]
        out[i] = others[np.sort(np.unique(chips[others], return_index=True)[1])[:k]]
    return out
