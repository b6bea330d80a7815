"""What may be recommended: the platform that a board's user means, and the candidates that are known for such platforms."""
from __future__ import annotations

from dataclasses import replace
from typing import Mapping

import numpy as np
import pandas as pd

from lib.benchmark import PLATFORM, RANKABLE, SUITES, TRAITS, VARIANT, Benchmark, Platform, Query, build_queries, platform_specs
from lib.neighbours import Neighbours
from lib.request import PTM, Board, Task, choose, stated

NEAREST = 6  # boards of a suite whose candidates are offered


def platform(board: Board, near: Neighbours, own: list[Query], wanted: Mapping[str, object]) -> Platform:
    """As asked for; else the most threads with which (about) most candidates were measured, else as on boards of this kind."""
    fits = [q for q in own if all(getattr(q.platform, k) == v for k, v in wanted.items())]
    if fits:
        enough = [q for q in fits if len(q) >= 0.8 * max(map(len, fits))]
        if "runtime" not in wanted and all(q.platform.processor == "npu" for q in fits):
            runtime = fastest(near.measured(board.device_id).query("processor == 'npu'"), {q.platform.runtime for q in fits})
            enough = [q for q in fits if q.platform.runtime == runtime]
        fits = enough
        return min(fits, key=lambda q: (-(q.platform.threads or 0), -len(q), q.platform.power_mode or "")).platform
    rows, f = near.measured(board.device_id or "-"), board.fields
    mcu, cores = f.get("device_class") == "mcu", int(f["cores"]) if stated(f.get("cores")) else None
    cpu = not mcu and (any(stated(f.get(k)) for k in ("isa", "core_type", "cores")) or not stated(f.get("npu")))
    has = {"mcu": mcu, "cpu": cpu, "npu": stated(f.get("npu")) or stated(f.get("npu_tops")), "gpu": stated(f.get("gpu"))}
    has |= {p: True for p in rows["processor"]}
    if wanted.get("processor") and not has.get(str(wanted["processor"])):
        raise ValueError(f"processor '{wanted['processor']}': {board.name} has none (it has: {', '.join(p for p in has if has[p])})")
    if "runtime" in wanted:
        choose(str(wanted["runtime"]), sorted(set(near.platforms["runtime"].dropna())), "runtime")
    if "threads" in wanted and cores and wanted["threads"] > cores:
        raise ValueError(f"threads: {wanted['threads']} is more than the {cores} cores of {board.name}")
    for k in (k for k in ("processor", "runtime", "threads") if k in wanted):
        rows = rows[rows[k] == wanted[k]] if k == "processor" or (rows[k] == wanted[k]).any() else rows
    if len(rows):
        sizes = rows.groupby(PLATFORM, dropna=False).size().reset_index(name="n")
        sizes = sizes[sizes["n"] >= 0.8 * sizes["n"].max()]
        best = sizes.sort_values(["threads", "n"], ascending=False, kind="stable").iloc[0]
        found = {k: None if pd.isna(best[k]) else best[k] for k in PLATFORM} | wanted
        return Platform(**found | {"threads": int(found["threads"]) if found["threads"] else None})
    processor = str(wanted.get("processor") or next(p for p in ("mcu", "cpu", "npu", "gpu") if has[p]))
    threads = wanted.get("threads") or (cores if processor == "cpu" else 1 if processor == "mcu" else None)
    w = near.closeness(platform_specs(f, processor, None, threads), str(f.get("soc") or ""))
    f = near.figures.join(near.platforms[["device_id", "runtime"]], on="platform").assign(w=w[near.figures["platform"]])
    totals = f.groupby("runtime")["w"].sum()  # most figures on the most similar boards; on an NPU the fastest of the usual ones
    usual = fastest(f[f["w"] >= 0.1 * w.max()], set(totals.index)) if processor == "npu" else totals.idxmax()
    runtime = wanted.get("runtime") or usual
    return Platform(board.device_id or board.name, processor, str(runtime), threads)


def fastest(figures: pd.DataFrame, runtimes: set[str]) -> str:
    """Of the runtimes that ran at least half as many variants as the most used one, the fastest on what they share, device by device."""
    wide = figures[figures["runtime"].isin(runtimes)].pivot_table(index=[*VARIANT, "device_id"], columns="runtime", values="latency_ms", aggfunc="median")
    wide = wide.loc[:, wide.notna().sum() >= 0.5 * wide.notna().sum().max()]
    shared = np.log(wide.dropna())
    return str((shared.mean() if len(shared) else -wide.notna().sum()).idxmin())


def queries(benchmark: Benchmark, task: Task, near: Neighbours, device_id: str, w: np.ndarray | None = None) -> list[Query]:
    """Queries of the task (of its type, if it is new) on the device and, given closeness ``w`` (P,), on the nearest boards."""
    a = benchmark.accuracies
    a = a[(a["task"] == task.name if task.name else a["task_type"] == task.task_type) & a["metric"].isin(RANKABLE) & ~a["excluded"]]
    out: list[Query] = []
    for name, suite in SUITES.items():
        mine, devices = benchmark.measurements["source"].isin(suite.measurements), {device_id}
        scores = a[a["source"].isin(suite.accuracies) & ~a["dataset"].isin(suite.left_out_datasets)]
        if scores.empty:
            continue
        if w is not None:
            rows = near.figures.loc[near.figures["source"].isin(suite.measurements), "platform"].unique()
            order = near.platforms["device_id"].loc[rows[np.argsort(-w[rows], kind="stable")]]
            devices |= set(order.drop_duplicates().iloc[:NEAREST])
        m = benchmark.measurements[mine & benchmark.measurements["device_id"].isin(devices)]
        if len(m):
            out += build_queries(replace(benchmark, accuracies=scores, measurements=m), name, all_platforms=True)
    return out


def candidates(found: list[Query], task: Task, near: Neighbours, w: np.ndarray) -> pd.DataFrame:
    """Candidates of the queries on the nearest platform and its like, with their accuracies and where those come from."""
    states = near.platforms[PLATFORM].astype(object).where(near.platforms[PLATFORM].notna(), None)
    close = dict(zip(states.itertuples(index=False, name=None), w))
    groups: dict[tuple, list[tuple[float, Query]]] = {}
    for q in found:  # accuracies of several sources or metrics are never ranked together
        key = (q.suite, q.platform.runtime if SUITES[q.suite].join == "runtime" else "")
        key += (q.source, q.accuracy_metric) if task.name else ()
        groups.setdefault(key, []).append((close.get(tuple(getattr(q.platform, k) for k in PLATFORM), 0.0), q))
    if not groups:
        return pd.DataFrame(columns=PTM + TRAITS + ["accuracy", "accuracy_metric", "accuracy_source"])
    key = max(groups, key=lambda k: (round(np.log(max(at for at, _ in groups[k]) + 1e-99), 1), max(len(q) for _, q in groups[k]), k))
    members = sorted(groups[key], key=lambda m: (-m[0], -len(m[1]), m[1].name))
    tables = [q.candidates.assign(accuracy=q.values["accuracy"] if task.name else np.nan, accuracy_metric=q.accuracy_metric,
                                  accuracy_source=q.source.rpartition("+")[2])
              for _, q in members if q.platform.processor == members[0][1].platform.processor]
    pool = pd.concat(tables, ignore_index=True)
    if not task.name and SUITES[key[0]].join != "architecture":  # trained for other tasks: yours has still to be trained
        pool = pool.assign(pretrain_dataset=None, training=None)
    return pool.drop_duplicates(PTM, ignore_index=True)
