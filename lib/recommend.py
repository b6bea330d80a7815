"""From a task, a device and priorities to a ranked table of pre-trained models: what the command line calls.

What was measured is used as measured. The rest is predicted: hardware metrics from boards that resemble the platform
(:mod:`lib.neighbours`) and by the trained hardware ranker, accuracy by the trained task ranker. Every metric with a
weight casts one vote, as in the ground truth, and each row says what it rests on.
"""
from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Mapping

import numpy as np
import pandas as pd

from lib import offer, paths, shipped
from lib.benchmark import SUITES, VARIANT, Benchmark, Query, build_queries, load_benchmark, platform_specs
from lib.copeland import Copeland
from lib.expected import SPREAD, combine, log_ties
from lib.filling import Figures, in_half_precision, predict_accuracy, predict_hardware
from lib.metrics import DEFAULT_PRIORITIES, METRICS, check_priorities, parse_priorities
from lib.neighbours import Neighbours
from lib.noise import noise
from lib.request import PTM, YOURS, Board, choose, read_candidates, read_device, read_task, stated

RANKERS = ("shadow", "fusion", "truth")
BYTES = {"int8": 1, "w8a16": 1, "w4a16": 0.5, "fp16": 2, "bf16": 2}  # of a weight; else 4
COLUMNS = ["rank", "model_id", "pretrain_dataset", "input_shape", "precision", "score", "accuracy", "accuracy_kind", "latency_ms",
           "latency_kind", "memory_kib", "storage_kib", "energy_uj", "evidence"]


# ------------------------------------------------------------------------------------------------ ranking

def _misfit(figures: Figures, specs: Mapping[str, float | str], external: bool) -> tuple[np.ndarray, list[str]]:
    """Candidates (n,) whose working memory is larger than the board's, and a remark per candidate.

    Nothing is excluded from a board with ``external`` memory. Weights can be kept in external flash: that is said, not
    held against a candidate.
    """
    ram, flash = (float(specs.get(k, np.nan)) * 1024 for k in ("ram_mib", "flash_mib"))
    memory, candidates = figures.values["memory_kib"].to_numpy(float), figures.query.candidates
    weights = candidates["params_m"] * candidates["precision"].map(BYTES).fillna(4) * 1e6 / 1024
    storage = figures.values["storage_kib"].fillna(weights).to_numpy(float)
    large = "needs external RAM" if external else "does not fit"
    remarks = ["; ".join([f"{large}: {m:.0f} KiB RAM of {ram:.0f}"] * bool(m > ram)
                         + [f"needs external flash: {s:.0f} KiB of {flash:.0f}"] * bool(s > flash)) for m, s in zip(memory, storage)]
    return (memory > ram) & (not external), remarks


def _scores(figures: Figures, priorities: Mapping[str, Fraction], ranker: str) -> np.ndarray:
    """Copeland scores (n,) of the filled query: expected ones where predictions have a vote."""
    query = replace(figures.query, values=figures.values.assign(**{METRICS[m].column: v for m, v in figures.votes.items()}))
    voters = [m for m in priorities if m in query.metrics]
    known = np.flatnonzero((figures.kind[voters] == "measured").all(axis=1))
    if len(known) == len(query) or len(query) < 2 or ranker == "truth":
        return query.truth(priorities).scores
    if ranker != "fusion":
        values = query.values[[METRICS[m].column for m in voters]].to_numpy(float).T
        votes = {m: v if m == "accuracy" else -np.log10(v) for m, v in zip(voters, values)}
        usual = SPREAD | {"accuracy": query.noise["accuracy"].scatter}  # points; an order alone brings its own scale
        spreads = {m: np.where(figures.kind[m] == "measured", 0.0, usual[m]) for m in voters} | figures.spreads
        ties = log_ties(query) | {"accuracy": 0.0 if "accuracy" in figures.votes else query.noise["accuracy"].threshold}
        return np.round(combine(votes, priorities, spreads, ties), 3)
    # Fusion orders the pairs; pairs of which every weighted metric was measured are ordered by what was measured.
    predicted = np.round(figures.ranker("fusion").score(query, priorities), 5)
    margins = np.sign(predicted[:, None] - predicted[None])
    if len(known):
        s = query.subset(known).truth(priorities).scores
        margins[np.ix_(known, known)] = np.sign(s[:, None] - s[None])
    return margins.sum(axis=1).astype(int)


def _evidence(figures: Figures, error: str) -> list[str]:
    """What each row rests on: metrics that are known in the same way stand together."""
    out, dataset = [], figures.query.task.partition("/")[2]
    for i, candidate in enumerate(figures.query.candidates.itertuples(index=False)):
        parts: dict[str, list[str]] = {}
        for metric in METRICS:
            kind, origin = figures.kind.at[i, metric], figures.origin.at[i, metric]
            if kind == "measured":
                scale = f" on {dataset}, {candidate.accuracy_metric}" if metric == "accuracy" and origin != YOURS else ""
                parts.setdefault(f"measured by {origin}{scale}", []).append(metric)
            elif kind:
                tested = metric == "latency" and origin.startswith("from ")  # far from every board the error is not known
                parts.setdefault(f"predicted {origin}" + error * tested, []).append(metric)
        named = stated(candidate.training) and candidate.training not in ("finetuned", "scratch")
        weights = [f"weights {candidate.training}"] if named else []
        out.append("; ".join(weights + [f"{', '.join(metrics)} {how}" for how, metrics in parts.items()]))
    return out


def _own(path: str, board: Board, data: Path | str) -> pd.DataFrame:
    """Measurements of one's own, in the columns of :class:`lib.neighbours.Neighbours`."""
    from lib.sources.own_board import read_measurements

    own = read_measurements(path, {"device_class": str(board.fields.get("device_class"))}, data).measurements
    own = own.rename(columns={"ram_kib": "memory_kib", "flash_kib": "storage_kib"}).astype({"threads": float})
    return own.fillna({c: "" for c in (*VARIANT, "runtime")})


def _error(specs: Mapping[str, float | str]) -> str:
    """Factor within which nine of ten predicted latencies were, on held-out boards of this class and processor."""
    path = paths.RESULTS / shipped.ERRORS
    t = pd.read_csv(path).query("method == 'both'") if path.exists() else pd.DataFrame({"processor": []})
    t = t[t["processor"] == specs.get("processor")]
    same = t[t["device_class"] == specs.get("device_class")] if len(t) else t
    t = same if len(t) and same["soc_group"].nunique() > 2 else t
    return f" (9 in 10 within x{t['factor90'].median():.1f})" if len(t) else ""


@lru_cache(maxsize=2)
def _tables(data: Path, changed: int) -> tuple[Benchmark, Neighbours]:
    benchmark = load_benchmark(data)
    return benchmark, Neighbours(benchmark)


def _only_measured(figures: Figures, priorities: Mapping[str, Fraction]) -> Figures:
    """Candidates of which every weighted metric that anybody measured here was measured."""
    needed = [m for m in priorities if (figures.kind[m] == "measured").any()]
    whole = (figures.kind[needed] == "measured").all(axis=1).to_numpy()
    if set(needed) <= {"accuracy"} < set(priorities) or not needed or not whole.any():
        missing = " and ".join(m for m in priorities if m not in needed) or "no candidate as a whole"
        raise ValueError(f"ranker 'truth': {missing} was not measured on {figures.query.platform} (use --ranker shadow, or give --measured)")
    figures.notes += [f"{(~whole).sum()} candidates that were not measured are left out"] if not whole.all() else []
    return figures.subset(np.flatnonzero(whole))


def recommend(task: str, device: str, *, processor: str | None = None, runtime: str | None = None, threads: int | None = None,
              weights: str | Mapping[str, int | Fraction] = DEFAULT_PRIORITIES, candidates: str | None = None,
              ranker: str = "shadow", measured: str | None = None, top: int | None = None,
              data: Path | str = paths.DATA) -> pd.DataFrame:
    """Rank pre-trained models for a task on a device.

    Parameters
    ----------
    task, device : str
        Name in the registry, or a YAML file.
    processor, runtime, threads
        Where the device runs them; default: as most candidates were measured.
    weights : mapping or text such as ``accuracy=2,latency=1``
    candidates, measured : str
        CSV files (``measured`` may also be the text that ``benchncnn`` prints).
    ranker : 'shadow' | 'fusion' | 'truth'
        ``truth`` uses only candidates that were measured.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`, best first; ``attrs`` holds ``title`` and ``notes``.

    Raises
    ------
    ValueError
        The input cannot be used; the message is one line.
    """
    choose(ranker, RANKERS, "ranker")
    priorities = parse_priorities(weights) if isinstance(weights, str) else check_priorities(weights)
    for name, number in (("top", top), ("threads", threads)):
        if number is not None and number < 1:
            raise ValueError(f"{name}: {number} is not allowed: at least 1")
    if processor is not None:
        choose(processor, ("cpu", "gpu", "npu", "mcu", "dsp", "fpga", "mixed"), "processor")
    files = [*Path(data).glob("facts/*/*.csv"), *Path(data).glob("registry/*.csv")]
    benchmark, near = _tables(Path(data), max((p.stat().st_mtime_ns for p in files), default=0))
    job, board = read_task(task, benchmark), read_device(device, benchmark)

    wanted = {k: v for k, v in (("processor", processor), ("runtime", runtime), ("threads", threads)) if v is not None}
    own = _own(measured, board, data) if measured is not None else None
    if own is not None and own["runtime"].iloc[0]:  # the text says how it was measured
        run = own.sort_values("threads", ascending=False)[["processor", "runtime", "threads"]].iloc[0].dropna()
        wanted = {k: int(v) if k == "threads" else v for k, v in run.items()} | wanted
    mine = offer.queries(benchmark, job, near, board.device_id) if board.device_id else []
    platform = offer.platform(board, near, mine, wanted)
    rows = near.measured(board.device_id, platform)
    specs = platform_specs(board.fields, platform.processor, platform.runtime, platform.threads, platform.power_mode,
                           next((clock for clock in rows["clock_mhz"] if stated(clock)), None))
    soc = str(board.fields["soc"]) if stated(board.fields.get("soc")) else ""
    w = near.closeness(specs, soc)
    pool = offer.candidates(offer.queries(benchmark, job, near, board.device_id, w), job, near, w)
    if candidates is not None:
        pool = read_candidates(str(candidates), pool, benchmark, "int8" if platform.processor in ("mcu", "npu") else "fp32")
    if pool.empty:
        some = sorted({q.task for name, suite in SUITES.items() if suite.accuracies for q in build_queries(benchmark, name)})
        some = [t for t in some if t.startswith(job.task_type + "/")] or some
        raise ValueError(f"no candidates are known for {job.name or job.task_type}: give --candidates (tasks that have some: {', '.join(some)})")

    pool = in_half_precision(pool, rows)
    empty = pd.DataFrame(np.nan, index=range(len(pool)), columns=[m.column for m in METRICS.values()])
    half, source = pool["half"].to_numpy(bool), pool["accuracy_source"]
    published = pool.loc[source.ne(YOURS) if source.ne(YOURS).any() else slice(None), ["accuracy_source", "accuracy_metric"]].iloc[0]
    metric = published["accuracy_metric"]
    hardware = (rows["source"] if len(rows) else near.figures["source"][near.figures["platform"] == w.argmax()]).iloc[0]
    noises = noise(f"{hardware}+{published['accuracy_source']}", job.name, metric, float(pool["accuracy"].median()))
    figures = Figures(Query("", "", job.name or job.task_type, platform, "", "", pool, empty, specs, job.prototypes, metric, noises), Path(data))
    figures.put("accuracy", pool["accuracy"].where(half).to_numpy(float), "predicted", "as in fp32, by " + source)
    figures.put("accuracy", pool["accuracy"].where(~half).to_numpy(float), "measured", source.to_numpy(object))
    if own is None:
        figures.measured(rows)
    else:
        run = own[(own["threads"].isna() | (own["threads"] == platform.threads)) & (own["processor"] == platform.processor)]
        own = run if len(run) else own
        if not figures.measured(own, YOURS):
            raise ValueError(f"{measured}: none of its networks is, at the same input shape and precision, among the {len(pool)} "
                             f"candidates, such as {' '.join(map(str, pool[VARIANT].iloc[0]))}")
    if ranker == "truth":
        figures = _only_measured(figures, priorities)
    else:
        sized = figures.query.candidates[["macs_m", "params_m"]].notna().any(axis=1).to_numpy() | (figures.kind["latency"] == "measured").to_numpy()
        if 0 < sized.sum() < len(sized):  # a latency of a network of unknown size would be that of some other network
            unknown = sorted(set(figures.query.candidates["model_id"][~sized]))
            figures = figures.subset(np.flatnonzero(sized))
            figures.notes.append(f"left out, because nobody states their size: {', '.join(unknown)}")
        predict_hardware(figures, near, specs, soc, benchmark, own)
        predict_accuracy(figures)

    silent = {m: "no such platform was measured" for m in priorities if (figures.kind[m] == "").all()}
    silent |= {m: "such figures do not repeat here" for m in priorities if m not in noises and m not in silent}
    if len(silent) == len(priorities):
        raise ValueError(f"weights: {' and '.join(silent)} is neither measured nor predicted for {platform}")
    figures.notes += [f"{m} has no vote: {why}" for m, why in silent.items()]
    external = bool(near.measured(board.device_id)["memory_kib"].max() > float(specs.get("ram_mib", np.nan)) * 1024)
    over, remarks = _misfit(figures, specs, external)
    ranked = np.flatnonzero(~over) if (~over).any() and ranker != "truth" else np.arange(len(over))
    scores = np.full(len(over), -float(len(over)))
    scores[ranked] = _scores(figures.subset(ranked), priorities, ranker)
    evidence = _evidence(figures, "" if own is not None else _error(specs))
    table = figures.query.candidates[PTM].join(figures.values).assign(
        rank=Copeland(scores).ranks, score=scores, accuracy_kind=figures.kind["accuracy"], latency_kind=figures.kind["latency"],
        evidence=["; ".join(filter(None, pair)) for pair in zip(remarks, evidence)])
    table = table.sort_values(["rank", "latency_ms", "model_id", "input_shape"], kind="stable", ignore_index=True)[COLUMNS].head(top or len(table))
    title = f"{job.name or task} on {platform}, {', '.join(f'{m} {v}' for m, v in priorities.items())}, ranker {ranker}, {len(over)} candidates"
    table.attrs = {"title": title, "notes": list(dict.fromkeys(figures.notes))}
    return table


# ------------------------------------------------------------------------------------------------ output

def write(table: pd.DataFrame, form: str = "table", out: str | Path | None = None) -> str:
    """Text of a ranking as ``table``, ``csv`` or ``json``; written to a file in one step if ``out`` names one."""
    if form == "csv":
        text = table.to_csv(index=False, lineterminator="\n")
    elif form == "json":
        text = table.to_json(orient="records", indent=1, force_ascii=False) + "\n"
    else:
        places = {"accuracy": "{:.2f}", "latency_ms": "{:.4g}", "memory_kib": "{:.0f}", "storage_kib": "{:.0f}", "energy_uj": "{:.4g}"}
        shown = table.astype(object).where(table.notna() & (table != ""), "-")
        for column, style in places.items():
            shown[column] = [v if isinstance(v, str) else style.format(v) for v in shown[column]]
        lines = map(str.rstrip, shown.to_string(index=False).splitlines())
        text = "\n".join([table.attrs["title"], "", *lines, *(f"note: {n}" for n in table.attrs["notes"]), ""])
    if out is not None:
        try:
            with paths.written(Path(out)) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{out}: cannot be written: {error.strerror}") from None
    return text


def plot(ax: object, table: pd.DataFrame, title: str = "", named: int = 3) -> None:
    """Accuracy against latency of a ranking on matplotlib axes: filled = both measured, open = one predicted.

    The line is the Pareto front; the first ``named`` rows are circled, numbered and named above.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    from lib.figures import BLUE, GREY, VERMILION

    t = table.dropna(subset=["accuracy", "latency_ms"])
    measured = ((t["accuracy_kind"] == "measured") & (t["latency_kind"] == "measured")).to_numpy()
    for rows, style, label in ((measured, {"facecolor": BLUE}, "measured"), (~measured, {"facecolor": "none"}, "predicted in part")):
        if rows.any():
            ax.scatter(t["latency_ms"][rows], t["accuracy"][rows], s=34, edgecolor=BLUE, label=label, zorder=3, **style)
    front = t.sort_values(["latency_ms", "accuracy"], ascending=[True, False])
    front = front[front["accuracy"] > front["accuracy"].cummax().shift(fill_value=-np.inf)]
    ax.step(front["latency_ms"], front["accuracy"], where="post", color=GREY, linewidth=1.2, zorder=2, label="Pareto front")
    first = t.head(named)
    ax.scatter(first["latency_ms"], first["accuracy"], s=90, facecolor="none", edgecolor=VERMILION, linewidth=1.6, zorder=4)
    place = np.column_stack([np.log(t["latency_ms"]), t["accuracy"]])
    place = place / np.where(np.ptp(place, axis=0) > 0, np.ptp(place, axis=0), 1)
    for i, row in enumerate(first.itertuples()):
        if i == 0 or np.abs(place[:i] - place[i]).max(axis=1).min() > 0.05:  # one number where points lie on each other
            ax.annotate(str(row.rank), (row.latency_ms, row.accuracy), (-7, 5), textcoords="offset points", color=VERMILION, ha="right",
                        fontsize=10, weight="bold")
    names = "   ".join(dict.fromkeys(f"{r.rank} {r.model_id}" for r in first.itertuples()))
    ax.text(0, 1.02, names, transform=ax.transAxes, color=VERMILION, fontsize=8.5)
    ax.set_title(title, pad=20)
    ax.set(xscale="log", xlabel="latency (ms)", ylabel="accuracy (%)")
    ax.margins(x=0.08, y=0.1)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
