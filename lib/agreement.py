"""How well published figures repeat, and from which difference on an order is more than noise.

Two *blocks* of figures (runs, boards, laboratories, releases, sources) are aligned on the models that both hold. Their
median difference is the *shift*: it moves all models alike and changes no ranking. What is left is the *scatter*.
*Reversals* ask directly: of two models that differ by a gap in one block, how often does the other block order them
the other way? The gap from which fewer than one in ten are reversed is the indifference threshold. The column ``unit``
(chip, core, model family) names what is independent; rows are not.
"""
from __future__ import annotations

from itertools import combinations
from typing import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from lib import quirks
from lib.benchmark import Benchmark

#: Kinds of repetition, the strictest first: name, source, which of its rows, columns in which two rows agree, columns that
#: tell the blocks apart (the first of them must differ where the name is in capitals).
LEVELS = (
    ("SAME PROGRAM, OTHER LABORATORY", "mlperf_tiny", "closed", "chip clock runtime_version", "submitter round"),
    ("same board, other run", "ncnn", "equal_cores", "device_id processor threads date runtime_version precision", "power_mode loops"),
    ("SAME CHIP, OTHER BOARD", "ncnn", "cpu", "chip clock cores threads power_mode precision", "device_id date"),
    ("same chip, other board", "qaihub", "value > 0", "chip processor runtime", "device_id"),
    ("newer software", "rockchip", "value > 0", "device_id precision", "date"),
    ("newer software", "vitis", "value > 0", "device_id kind threads power_mode", "date"),
    ("newer software", "model_traits", "value > 0", "device_id", "runtime_version"),
    ("NEWER SOFTWARE", "mlperf_tiny", "closed", "chip clock runtime submitter", "round runtime_version power_mode"),
    ("other runtime", "qaihub", "processor == 'npu' and runtime != 'onnxruntime'", "device_id", "runtime"),
    ("OTHER RUNTIME", "mlperf_tiny", "closed", "chip clock", "runtime round submitter runtime_version"),
    ("other number of threads", "ncnn", "cpu", "device_id date power_mode precision", "threads"),
)


def prepare(benchmark: Benchmark) -> pd.DataFrame:
    """Rankable measurements with the chip, first core, clock (MHz) and the run that :data:`LEVELS` compare.

    ``value``: latency in ms, or 1000 over a rate; ``mcycles``: latency times clock, in millions; ``arithmetic``: the
    precision, but fp16 for float runs of ncnn on cores that have it; ``item``: what ran, apart from the precision.
    """
    table, sheet = benchmark.measurements, benchmark.devices.set_index("device_id")
    usable = ~table["excluded"] | quirks.has(table, "two_speeds")  # what does not repeat is a finding here
    table = table[usable & table["kind"].ne("none")].reset_index(drop=True)
    device, note = sheet.reindex(table["device_id"]).reset_index(drop=True), table["note"].fillna("")
    clusters, work = device["clusters"].astype(object).fillna(""), device["device_class"].ne("server")
    half = table["source"].eq("ncnn") & table["precision"].eq("fp32") & device["dotprod"].astype(float).eq(1)
    named = table["model_name"] + " " + table["task"].fillna("") + " " + table["input_shape"].fillna("")
    table = table.join(note.str.extract(r", (?P<division>\w+) division, submitter (?P<submitter>[^,]+),")).assign(
        value=table["latency_ms"].fillna(1000 / table["throughput_ips"]), chip=device["soc_group"], cores=device["cores"],
        core=clusters.str.extract(r"^\d+x([^@ ]+)")[0], clock=table["clock_mhz"].fillna(device["clock_mhz"]).astype(float),
        round=note.str.extract(r"MLPerf Tiny (v[\d.]+)")[0], loops=note.str.extract(r"loop_count=(\d+)")[0], arithmetic=table["precision"].mask(half, "fp16"),
        cpu=work & table["processor"].eq("cpu"), item=named.mask(table["source"].eq("mlperf_tiny"), table["model_id"]),
        equal_cores=work & (clusters.ne("") & ~clusters.str.contains(" ") | quirks.has(table, "repeated_run")))
    return table.assign(mcycles=table["latency_ms"] * table["clock"] / 1000, closed=table["division"].eq("closed"))


def aligned(table: pd.DataFrame, same: Sequence[str], differs: Sequence[str], item: Sequence[str] = ("item", "precision"),
            value: str = "value", unit: str = "chip", least: int = 3) -> pd.DataFrame:
    """Figures ``x, y`` of every two blocks that share ``least`` items, one row an item; repeats inside a block: median.

    Columns ``unit, pair`` (number of the block pair), ``a_0, a_1, ..., b_0, ...`` (values of ``differs``), ``item, x, y``.
    """
    names, out = [f"{side}_{i}" for side in "ab" for i in range(len(differs))], []
    for _, group in table.assign(**{k: table[k].astype(object).fillna("") for k in differs}).groupby(list(same), dropna=False):
        units = group.groupby(list(item), dropna=False)[unit].first()
        blocks = [(k, g.groupby(list(item), dropna=False)[value].median().dropna()) for k, g in group.groupby(list(differs))]
        for (a, x), (b, y) in combinations(blocks, 2):
            both = x.index.intersection(y.index)
            if len(both) >= least:
                out.append(pd.DataFrame({"unit": units[both].to_numpy(), "pair": len(out), **dict(zip(names, (*a, *b))),
                                         "item": [str(i) for i in both], "x": x[both].to_numpy(), "y": y[both].to_numpy()}))
    empty = pd.DataFrame(columns=["unit", "pair", *names, "item", "x", "y"]).astype({"x": float, "y": float})
    return pd.concat(out, ignore_index=True) if out else empty


def repeats(table: pd.DataFrame, levels: Sequence[tuple[str, str, str, str, str]] = LEVELS) -> pd.DataFrame:
    """Aligned latencies of every level, with ``level`` and ``source``; `table` comes from :func:`prepare`."""
    out = []
    for name, source, only, same, differs in levels:
        rows = aligned(table[table["source"].eq(source)].query(only), same.split(), differs.split())
        out.append((rows[rows["a_0"] != rows["b_0"]] if name.isupper() else rows).assign(level=name.lower(), source=source))
    return pd.concat(out, ignore_index=True)


def noise(pairs: pd.DataFrame, relative: bool = True) -> pd.DataFrame:
    """Per block pair: ``unit, n`` items, ``shift`` (median of y against x) and ``scatter`` (1.4826 times the median
    absolute deviation: a robust standard deviation); as shares if ``relative``, else in the unit of the figures."""
    change = np.log(pairs["y"] / pairs["x"]) if relative else pairs["y"] - pairs["x"]
    rest = 1.4826 * (change - change.groupby(pairs["pair"]).transform("median")).abs()
    out = pairs.assign(change=change, rest=rest).groupby("pair").agg(
        unit=("unit", "first"), n=("change", "size"), shift=("change", "median"), scatter=("rest", "median"))
    return out.assign(**{c: np.expm1(out[c]) for c in ("shift", "scatter")}) if relative else out


def reversals(pairs: pd.DataFrame, relative: bool = True, most: int = 200, seed: int = 0) -> pd.DataFrame:
    """``unit, gap, reversed`` for every two items of a block pair, read in both directions.

    ``gap`` is |a - b| over the larger of the two if ``relative`` (as Copeland's thresholds), else |a - b|; ``reversed``
    is 1 if the other block says the opposite and 0.5 if it sees a tie. At most ``most`` items a pair, drawn at random.
    """
    out, generator = [], np.random.default_rng(seed)
    for _, rows in pairs.groupby("pair"):
        rows = rows.iloc[np.sort(generator.permutation(len(rows))[:most])]
        i, j = np.triu_indices(len(rows), 1)
        for u, v in (rows[["x", "y"]].to_numpy(float).T, rows[["y", "x"]].to_numpy(float).T):
            gap = np.abs(u[i] - u[j]) / (np.maximum(np.abs(u[i]), np.abs(u[j])) if relative else 1)
            turned = 0.5 - 0.5 * np.sign(u[i] - u[j]) * np.sign(v[i] - v[j])
            out.append(pd.DataFrame({"unit": rows["unit"].to_numpy()[i], "gap": gap, "reversed": turned})[gap > 0])
    return pd.concat(out, ignore_index=True)


def indifference(table: pd.DataFrame, share: float = 0.1, draws: int = 200, seed: int = 0) -> tuple[float, float, float]:
    """Smallest gap from which at most ``share`` is reversed, with its 95 % bootstrap interval over units.

    Falling isotonic regression of ``reversed`` on the gap in which every unit weighs the same; the largest gap if never.
    """
    edges = np.geomspace(max(table["gap"].min(), 1e-4), table["gap"].max(), 200)
    cell, units = np.digitize(table["gap"], edges), pd.factorize(table["unit"])[0]
    count, turned = np.zeros((2, units.max() + 1, len(edges) + 1))
    np.add.at(count, (units, cell), 1)
    np.add.at(turned, (units, cell), table["reversed"])

    def crossing(pick: np.ndarray) -> float:
        seen, rate = ((x / count.sum(1, keepdims=True))[pick].sum(0) for x in (count, turned))
        fit = isotonic_regression(rate[seen > 0] / seen[seen > 0], weights=seen[seen > 0], increasing=False).x
        below = np.flatnonzero(seen)[fit <= share]
        return float(edges[max(below[0] - 1, 0)] if len(below) else edges[-1])

    picks = np.random.default_rng(seed).integers(len(count), size=(draws, len(count)))
    low, high = np.quantile([crossing(p) for p in picks], [0.025, 0.975]) if len(count) > 1 else (np.nan, np.nan)
    return crossing(np.arange(len(count))), float(low), float(high)


def whole_images(percent: Sequence[float], sizes: Sequence[int], digits: int = 2) -> pd.DataFrame:
    """Which number of test images explains published percentages: share of the distinct ones that are a whole number
    of images (``fits``) and the share that chance would give (``chance``), for each of the ``sizes``."""
    values, sizes = np.unique(np.round(percent, digits)), np.asarray(sizes)
    nearest = np.round(values * sizes[:, None] / 100) * 100 / sizes[:, None]
    return pd.DataFrame({"images": sizes, "fits": (np.abs(nearest - values) <= 0.501 * 10.0 ** -digits).mean(1),
                         "chance": np.minimum(1, sizes * 10.0 ** -digits / 100)})
