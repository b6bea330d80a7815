"""Figures of candidates: what was measured, and predictions for the rest, each cell with how it is known."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Mapping

import numpy as np
import pandas as pd

from lib import shipped
from lib.benchmark import TRAITS, VARIANT, Benchmark, Query, build_queries, with_traits
from lib.expected import SPREAD
from lib.metrics import HARDWARE, METRICS
from lib.neighbours import Neighbours


class Figures:
    """Figures of the candidates, a table (n, metrics); ``kind`` and ``origin`` say of each cell how it is known."""

    def __init__(self, query: Query, data: Path) -> None:
        self.query, self.data, self.notes = query, data, []
        self.values = query.values
        self.kind = pd.DataFrame("", index=range(len(query)), columns=list(METRICS))
        self.origin = self.kind.copy()
        self.votes: dict[str, np.ndarray] = {}  # of a metric whose order is predicted, not its values
        self.spreads: dict[str, np.ndarray] = {}  # standard deviations of votes, where they differ from the usual ones

    def ranker(self, name: str) -> object:
        """A shipped ranker, loaded when it is needed."""
        found, note = shipped.load(name, self.data)
        self.notes += [note] if note else []
        return found

    def subset(self, rows: np.ndarray) -> "Figures":
        """The same of fewer candidates."""
        part = Figures(self.query.subset(rows), self.data)
        part.values, part.kind, part.origin = (t.iloc[rows].reset_index(drop=True) for t in (self.values, self.kind, self.origin))
        part.notes = self.notes
        part.votes, part.spreads = ({m: v[rows] for m, v in d.items()} for d in (self.votes, self.spreads))
        return part

    def put(self, metric: str, values: np.ndarray, kind: str, origin: object) -> None:
        """Fill the cells for which there is a value and that are still empty (or predicted, if ``kind`` is measured)."""
        column = METRICS[metric].column
        rows = np.isfinite(values) & (self.kind[metric] != "measured").to_numpy()
        self.values[column] = np.where(rows, values, self.values[column])
        self.kind[metric] = np.where(rows, kind, self.kind[metric])
        self.origin[metric] = np.where(rows, origin, self.origin[metric])

    def measured(self, rows: pd.DataFrame, source: str | None = None) -> int:
        """Figures of the variants in ``rows``; an empty shape or precision there fits any. Returns how many candidates."""
        wanted = pd.MultiIndex.from_frame(self.query.candidates[VARIANT].fillna(""))
        found = rows.drop_duplicates(VARIANT).set_index(VARIANT).reindex(wanted)
        for metric, column in HARDWARE.items():
            if column in found:
                self.put(metric, found[column].to_numpy(float), "measured", source or found["source"].to_numpy(object))
        return int(found["latency_ms"].notna().sum())


def predict_hardware(figures: Figures, near: Neighbours, specs: Mapping[str, float | str], soc: str, benchmark: Benchmark,
              own: pd.DataFrame | None) -> None:
    """Predict the hardware metrics that nobody measured; the few of one's own measurements adapt the latencies."""
    query, n = figures.query, len(figures.query)
    # Variants that close boards ran put the candidates that none of them ran on the right level.
    w = near.closeness(specs, soc)[near.figures["platform"]]
    known = near.figures[VARIANT].loc[np.argsort(-w, kind="stable")[:40]].drop_duplicates()
    table = pd.concat([query.candidates[VARIANT + TRAITS], with_traits(benchmark, known)], ignore_index=True)
    table.iloc[:n] = _completed(table.iloc[:n], table.iloc[n:])
    nobody, ranker = {"pretrain_dataset": None, "training": None}, None
    wide = replace(query, candidates=table, values=pd.DataFrame(index=range(len(table))))
    for metric, column in HARDWARE.items():
        if (figures.kind[metric] == "measured").all() and own is None:
            continue
        e = near.predict(table, specs, column, soc)
        if metric != "latency" and np.isfinite(e.value[:n]).mean() < 0.5:
            continue  # boards of this kind have no such figures
        value = e.value
        if (e.trust[:n] < 1).any() and (metric == "latency" or (e.trust[:n] == 0).all()):
            if ranker is None:
                ranker = figures.ranker("hardware")
                named, nameless = (ranker.predict(replace(wide, candidates=table.assign(**none))) for none in (nobody, nobody | {"model_id": None}))
            if metric in named:  # a network that training never saw is compared with others by traits alone
                new = ~(table["model_id"].isin(ranker.vocabulary.index["model_id"]) | np.isfinite(e.value)).to_numpy()
                value = np.where(new, e.blend(nameless[metric], table), e.blend(named[metric], table))
        if metric == "latency" and own is not None:
            value, spread = _adapted(wide, value, own, benchmark)
            figures.spreads[metric] = np.where(figures.kind[metric] == "measured", 0.0, spread[:n])
            e = e._replace(nearest=e.nearest + ", adapted to yours,")
        more = [f" and {b - 1} more board{'s' if b > 2 else ''}" if b > 1 else "" for b in e.boards]
        origin = [f"from {name}{m}" if trust > 0.5 else "by the trained ranker" for name, m, trust in zip(e.nearest, more, e.trust)]
        figures.put(metric, value[:n], "predicted", np.array(origin[:n], object))


def _completed(candidates: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Traits that are not stated as those of the known variant nearest in size; counts in proportion."""
    out, sizes = candidates.copy(), np.log10(known[["macs_m", "params_m"]].to_numpy(float))
    for i in np.flatnonzero(candidates[["macs_m", "params_m", "macts_m", "size_mib", "year", "input_shape"]].isna().any(axis=1)):
        row = candidates.iloc[i]
        apart = np.abs(sizes - np.log10([row["macs_m"], row["params_m"]])) + (known["family"] != row["family"]).to_numpy()[:, None]
        like = known.iloc[np.nan_to_num(apart, nan=1.0).sum(axis=1).argmin()]
        for c, by in (("macs_m", "params_m"), ("params_m", "macs_m"), ("macts_m", "macs_m"), ("size_mib", "params_m")):
            if pd.isna(out.at[i, c]):
                out.loc[i, c] = like[c] * (row[by] / like[by] if pd.notna(row[by]) else 1.0)
        for c in ("year", "input_shape", "family", "architecture"):
            out.loc[i, c] = like[c] if pd.isna(row[c]) else row[c]
    return out


def _adapted(query: Query, predicted: np.ndarray, own: pd.DataFrame, benchmark: Benchmark) -> tuple[np.ndarray, np.ndarray]:
    """Latencies given those that were measured on the very board, and their standard deviations in decades."""
    from lib.adapt import FewShot

    mine = own.drop_duplicates(VARIANT).set_index(VARIANT)["latency_ms"]
    mine = mine.reindex(pd.MultiIndex.from_frame(query.candidates[VARIANT].fillna(""))).to_numpy(float)
    first = ~query.candidates.duplicated(VARIANT).to_numpy()  # PTMs of one network share its latency
    queries = [q for name in ("mcu", "npu", "latency") for q in build_queries(benchmark, name)]
    return FewShot().fit(queries).adapt(query, predicted, np.where(first, mine, np.nan))


def in_half_precision(pool: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Candidates in fp32 that the platform runs in half precision, as its GPU does: their accuracy is then close, not measured."""
    rows = rows[rows["precision"].isin(["fp16", "bf16", "mixed"])].drop_duplicates(VARIANT[:2])
    found = pool[VARIANT].merge(rows[VARIANT], on=VARIANT[:2], how="left", suffixes=("", "_run"))["precision_run"]
    half = (found.notna() & (pool["precision"] == "fp32")).to_numpy()
    return pool.assign(precision=np.where(half, found, pool["precision"]), half=half)


def predict_accuracy(figures: Figures) -> None:
    """Where an accuracy is not known the task ranker predicts: in % if known ones of the task set the scale, else the order."""
    query, known = figures.query, (figures.kind["accuracy"] != "").to_numpy()
    if known.all():
        return
    score = figures.ranker("task").score(query)
    values = figures.values["accuracy"].to_numpy(float)
    if known.sum() < 2:  # the task ranker's own scale, on which it knows how sure it is
        figures.votes["accuracy"], figures.spreads["accuracy"] = score, np.full(len(query), SPREAD["accuracy"])
        figures.kind.loc[~known, "accuracy"], figures.origin.loc[~known, "accuracy"] = "predicted", "order only, by the trained ranker"
        return
    slope = max(0.0, np.polyfit(score[known], values[known], 1)[0]) if np.ptp(score[known]) > 1e-6 else 0.0
    line = values[known].mean() + slope * (score - score[known].mean())
    figures.put("accuracy", line.clip(0, 100), "predicted", "by the trained ranker")
    figures.spreads["accuracy"] = np.where(known, 0.0, slope * SPREAD["accuracy"])
