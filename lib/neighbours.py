"""Figures of boards that resemble a platform, scaled to its clock: a prediction of hardware metrics without training.

A figure on platform p is taken as log10 y(v, p) = a_v + c_p - log10 clock_p: what variant v asks for in cycles, times
how well the platform uses its cycles. This is the compute-bound side of the roofline (Williams et al., CACM 2009); what
memory adds is part of c_p. Both parts are fitted by weighted least squares around the platform that is asked for, so
boards of the same core, runtime and threads decide, and a variant that only some of them ran is put on one level with
the others. Memory, storage and energy are not scaled.
"""
from __future__ import annotations

import re
from typing import Mapping, NamedTuple, Sequence

import numpy as np
import pandas as pd

from lib.benchmark import PLATFORM, VARIANT, Benchmark, Platform, Query, platform_queries, platform_specs
from lib.metrics import HARDWARE

REACH = 0.2  # a platform farther by this much counts e times less; 0.15 to 0.4 do about as well on boards held out
FIGURES = tuple(HARDWARE.values())
LIKE = 0.3  # decades of operations and parameters within which variants deviate alike
TRUST = 3e-4  # closeness of the boards behind an estimate at which it counts as much as the trained ranker; 1e-4 to 3e-3 differ little


class Estimate(NamedTuple):
    """Per variant, (n,) each: ``value`` (NaN: no such board ran it), ``weight`` of the boards that ran it, how many of them
    count (a twentieth of the nearest or more), and the ``nearest``."""

    value: np.ndarray
    weight: np.ndarray
    boards: np.ndarray
    nearest: np.ndarray

    @property
    def trust(self) -> np.ndarray:
        """Share of the estimate in a prediction, (n,): 0 = leave it to the trained ranker, above 0.95 it decides alone."""
        share = self.weight / (self.weight + TRUST)
        return np.where(share > 0.95, 1.0, share)

    def blend(self, trained: np.ndarray, variants: pd.DataFrame) -> np.ndarray:
        """Prediction (n,): the trained ranker's, moved towards this estimate; without one, as variants of like size moved.

        ``variants`` (n, .) holds ``macs_m`` and ``params_m``.
        """
        known = np.isfinite(self.value)
        if not known.any():
            return trained
        x = np.log10(variants[["macs_m", "params_m"]].to_numpy(float))
        apart = np.nan_to_num(x[:, None] - x[None, known], nan=1.0)  # (n, known, 2) decades
        like = np.exp(-0.5 * (apart**2).sum(-1) / LIKE**2) + 1e-6
        move = self.trust[known] * np.log10(self.value[known] / trained[known])
        moves = like @ move / like.sum(1)
        moves[known] = move
        return trained * 10**moves


def core(specs: Mapping[str, float | str]) -> str:
    """First core of a chip: ``Cortex-M7F`` and ``cortex-m7`` are one; empty if not stated."""
    return re.sub(r"(cortex-m\d+)f$", r"\1", re.split(r"[+,/( ]", str(specs.get("core_type", "")).lower().strip())[0])


def _features(specs: Mapping[str, float | str], soc: str) -> dict[str, object]:
    words = {f: str(specs.get(f, "")).split(" ")[0].split("-")[0] for f in ("gpu", "npu")}
    same = {f: specs.get(f, "") for f in ("processor", "runtime", "device_class")}
    return same | words | {f: specs.get(f, np.nan) for f in ("clock_mhz", "npu_tops", "threads")} | {"core": core(specs), "soc": soc.lower()}


class Neighbours:
    """Every usable figure by platform and variant.

    Attributes
    ----------
    platforms : DataFrame, one row a platform: :data:`PLATFORM`, ``soc_group`` and what the distance reads
    figures : DataFrame, one row a platform and variant: ``platform`` (row above), :data:`VARIANT`, :data:`FIGURES`, ``source``
    """

    def __init__(self, benchmark: Benchmark) -> None:
        m = benchmark.measurements
        m = m[(m["kind"] == "latency") & ~m["excluded"] & ~(m["batch_size"] > 1)]
        m = m.assign(processor=m["processor"].where(m["source"] != "qaihub", "npu"), input_shape=m["input_shape"].fillna(""),
                     memory_kib=m["ram_kib"].fillna(m["ram_internal_kib"] + m["ram_external_kib"].fillna(0)),
                     storage_kib=m["flash_kib"].fillna(m["flash_weights_kib"]))
        m = m.sort_values(["date", "latency_ms"], ascending=[False, True], kind="stable", na_position="last")
        m = m.drop_duplicates(PLATFORM + VARIANT)  # the newest run stands for its like
        m["platform"] = m.groupby(PLATFORM, dropna=False, sort=True).ngroup()
        self.figures = m[["platform", *VARIANT, *FIGURES, "source"]].reset_index(drop=True)
        first = m.drop_duplicates("platform").set_index("platform").sort_index()
        devices, rows = benchmark.devices.set_index("device_id").to_dict("index"), []
        for p in first.itertuples(index=False):
            device = devices.get(p.device_id, {})
            clock = None if pd.isna(p.clock_mhz) else p.clock_mhz
            soc = device["soc"] if isinstance(device.get("soc"), str) else ""
            features = _features(platform_specs(device, p.processor, p.runtime, p.threads, p.power_mode, clock), soc)
            rows.append(features | {"soc_group": device.get("soc_group", p.device_id)})
        features = pd.DataFrame(rows, index=first.index)
        self.platforms = first[PLATFORM].join(features.drop(columns=PLATFORM, errors="ignore"))

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "Neighbours":
        """The platforms of training queries only, for a ranker that must not see the others."""
        near, platforms = cls.__new__(cls), platform_queries(queries)
        near.platforms = pd.DataFrame([vars(q.platform) | _features(q.specs, "") | {"soc_group": q.soc} for q in platforms])
        near.figures = pd.concat([q.candidates[VARIANT].fillna("").join(q.values[list(FIGURES)]).assign(platform=i, source=q.source)
                                  for i, q in enumerate(platforms)], ignore_index=True)
        return near

    def closeness(self, specs: Mapping[str, float | str], soc: str = "") -> np.ndarray:
        """exp(-distance / REACH) of every platform, (P,): 1 for the same core, clock, runtime, threads and class."""
        p, t = self.platforms, _features(specs, soc)
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = {f: np.abs(np.log10(p[f].to_numpy(float) / float(t[f]))) for f in ("clock_mhz", "npu_tops", "threads")}
        d = 1.0 * ((p["core"] != t["core"]) | (t["core"] == "")) + 0.5 * (p["runtime"] != t["runtime"])
        d += 0.5 * (p["device_class"] != t["device_class"]) + np.nan_to_num(apart["clock_mhz"], nan=0.5)
        d += np.nan_to_num(apart["threads"]) + 2.0 * (p["processor"] != t["processor"])
        if t["processor"] == "npu":
            d += np.nan_to_num(apart["npu_tops"], nan=0.5) + (p["npu"] != t["npu"])
        if t["processor"] == "gpu":
            d += p["gpu"] != t["gpu"]
        d -= 0.5 * ((p["soc"] == t["soc"]) & (t["soc"] != ""))
        return np.exp(-d.to_numpy() / REACH)

    def measured(self, device_id: str, platform: Platform | None = None) -> pd.DataFrame:
        """Figures on a device, or on one ``platform`` of it, with the columns of :data:`PLATFORM` and the clock."""
        p = self.platforms[self.platforms["device_id"] == device_id]
        for k in PLATFORM if platform else ():
            value = getattr(platform, k)
            p = p[p[k].isna() if value is None else p[k] == value]
        return self.figures.merge(p[[*PLATFORM, "clock_mhz"]], left_on="platform", right_index=True)

    def predict(self, variants: pd.DataFrame, specs: Mapping[str, float | str], column: str = "latency_ms", soc: str = "",
                left_out: str = "", sweeps: int = 8) -> Estimate:
        """Weighted two-way fit around a platform.

        Parameters
        ----------
        variants : DataFrame (n, .) with :data:`VARIANT`
        specs : dict as of :func:`lib.benchmark.platform_specs`
        left_out : str
            SoC group whose boards are not used.
        """
        p, n = self.platforms, len(variants)
        usable = (p["processor"] == specs.get("processor")) & (p["soc_group"] != left_out)
        usable &= ~p["power_mode"].fillna("").str.contains("little")  # its cores are not those of the data sheet
        w = np.where(usable, self.closeness(specs, soc), 0.0)
        f = self.figures[self.figures[column].notna()]
        f = f[w[f["platform"]] > 1e-6 * w.max()]
        if f.empty:
            return Estimate(np.full(n, np.nan), np.zeros(n), np.zeros(n, int), np.full(n, ""))
        v, found = pd.factorize(pd.MultiIndex.from_frame(f[VARIANT]))
        row, y, weight = f["platform"].to_numpy(), np.log10(f[column].clip(lower=1e-6).to_numpy()), w[f["platform"]]
        if column == "latency_ms":
            y = y + np.nan_to_num(np.log10(p["clock_mhz"].to_numpy(float) / float(specs.get("clock_mhz", np.nan))))[row]
        c, total, heavy = np.zeros(len(w)), np.bincount(v, weight), np.bincount(row, weight, len(w))
        for _ in range(sweeps):
            a = np.bincount(v, weight * (y - c[row])) / total
            c = np.bincount(row, weight * (y - a[v]), len(w)) / np.where(heavy > 0, heavy, 1)
            c -= (w * c)[heavy > 0].sum() / w[heavy > 0].sum()
        a = np.bincount(v, weight * (y - c[row])) / total
        near = pd.DataFrame({"v": v, "weight": weight, "board": p["device_id"].to_numpy()[row]}).sort_values("weight", ascending=False, kind="stable")
        first = near.drop_duplicates("v").set_index("v").sort_index()
        boards = near[near["weight"] >= 0.05 * near["v"].map(first["weight"])].groupby("v")["board"].nunique().to_numpy()
        at = found.get_indexer(pd.MultiIndex.from_frame(variants[VARIANT].fillna("")))
        columns = ((10 ** a, np.nan), (total, 0.0), (boards, 0), (first["board"].to_numpy(object), ""))
        return Estimate(*(np.where(at >= 0, column[at], gap) for column, gap in columns))
