"""Published figures -> queries: task x platform, with its candidates and what was measured of them.

The rules of each join, all tested:

* A latency does not depend on the weights: one of the same architecture, input shape and precision on a platform
  serves every PTM of that architecture (``architecture`` join).
* An accuracy never crosses data sets or precisions, and accuracies of different sources are never ranked together.
* Where a source measured accuracy through a runtime, it serves that runtime only (``runtime`` join).
* A candidate without an accuracy or without a latency is left out; a query with fewer than four candidates, or fewer
  than three different networks, too.
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal, Mapping, Sequence

import numpy as np
import pandas as pd

from lib import paths, quirks, registry
from lib.copeland import Copeland, copeland
from lib.metrics import METRICS, check_priorities
from lib.noise import Noise, noise
from lib.prototypes import Tokens, load_tokens

MIN_CANDIDATES = 4
MIN_NETWORKS = 3  # PTMs of one network share its latency: with fewer networks the board has no say
PLATFORM = ["device_id", "processor", "runtime", "threads", "power_mode"]
VARIANT = ["model_id", "input_shape", "precision"]
TRAITS = ["family", "architecture", "params_m", "macs_m", "macts_m", "size_mib", "year"]

#: Accuracy metrics of which more is better and whose differences are in points; each gives queries of its own.
RANKABLE = ("top1", "accuracy", "mean_per_class_accuracy", "map", "map50", "map50_95", "map_iou40", "miou", "clip_accuracy",
            "oks", "auc", "delta1", "keypoint_ap", "f1", "mean_accuracy", "verification_accuracy", "rank1", "dice", "psnr")


@dataclass(frozen=True)
class Suite:
    """A family of queries: where latencies come from, where accuracies come from and how they meet."""

    name: str
    title: str
    measurements: tuple[str, ...]
    accuracies: tuple[str, ...]
    join: Literal["source", "runtime", "architecture", "none"]
    processors: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    device_classes: tuple[str, ...] | None = None
    left_out_datasets: tuple[str, ...] = ()  # further test sets of the same weights: near copies of one question


OWN = "own"  # figures that a reader added (add-device)

SUITES: dict[str, Suite] = {
    s.name: s
    for s in (
        Suite("mcu", "Microcontrollers and small MPUs (ST boards)", ("stm32", OWN), ("stm32", OWN), "source"),
        Suite("sbc", "Single-board computers and phones (ncnn, CPU)", ("ncnn", OWN),
              ("model_traits", "parc", "sfda", "model_spider"), "architecture", ("cpu",), ("fp32",),
              ("sbc", "mpu", "phone"), ("imagenet_a", "imagenet_r", "imagenet_real", "imagenet_sketch", "imagenet_v2")),
        Suite("npu", "NPU-class systems (Snapdragon, Dragonwing)", ("qaihub",), ("qaihub",), "runtime"),
        Suite("latency", "Latency only (ncnn, every CPU and GPU)", ("ncnn", OWN), (), "none"),
    )
}


@dataclass(frozen=True)
class Platform:
    """Where a model runs."""

    device_id: str
    processor: str
    runtime: str
    threads: int | None = None
    power_mode: str | None = None

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads and self.threads > 1 else ""
        return f"{self.device_id} ({self.processor}, {self.runtime}{threads})"


@dataclass(frozen=True, eq=False)
class Query:
    """One question of a user: these candidates, this task, this platform.

    Attributes
    ----------
    candidates : DataFrame (n, .)
        ``model_id, pretrain_dataset, training, input_shape, precision`` and the traits.
    values : DataFrame (n, metrics)
        Columns of :data:`lib.metrics.METRICS` in their units; NaN where nobody measured.
    specs : dict
        Known fields of the device's data sheet and of the run configuration; unknown fields are absent.
    prototypes : dict of arrays
        Task tokens: ``names`` (C, 384) and, for tasks with sample images, ``images`` (C, 1280).
    noise : dict
        Per metric the indifference threshold and the scatter of a repetition; a metric without an entry has no vote.
    """

    suite: str
    source: str
    task: str
    platform: Platform
    soc: str
    parent: str
    candidates: pd.DataFrame
    values: pd.DataFrame
    specs: Mapping[str, float | str]
    prototypes: Mapping[str, np.ndarray] = field(default_factory=dict)
    accuracy_metric: str = ""
    noise: Mapping[str, Noise] = field(default_factory=noise)

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def name(self) -> str:
        """Readable identifier."""
        metric = f" ({self.accuracy_metric})" if self.accuracy_metric else ""
        return f"{self.source}: {self.task}{metric} on {self.platform}"

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that have a vote: with at least one figure, of a kind that repeats."""
        return tuple(m.name for m in METRICS.values()
                     if m.name in self.noise and m.column in self.values and self.values[m.column].notna().any())

    def subset(self, index: Sequence[int]) -> "Query":
        """The same question with fewer candidates."""
        rows = np.asarray(index)
        return replace(self, candidates=self.candidates.iloc[rows].reset_index(drop=True),
                       values=self.values.iloc[rows].reset_index(drop=True))

    def again(self, rng: np.random.Generator, only: Sequence[str] | None = None) -> "Query":
        """As a second run of the same benchmarks would find it: figures (of ``only`` these metrics) disturbed by their
        scatter; log-normal, accuracy normal in points."""
        values = self.values.copy()
        for name, noise in self.noise.items():
            z = rng.standard_normal(len(values)) * noise.scatter * (only is None or name in only)
            column = METRICS[name].column
            values[column] = values[column] + z if noise.absolute else values[column] * np.exp(z)
        return replace(self, values=values)

    def truth(self, priorities: Mapping[str, int | Fraction]) -> Copeland:
        """Weighted Copeland ranking of the metric rankings.

        Metrics that nobody measured on this platform have no vote; differences within the threshold of :attr:`noise` are ties.

        Raises
        ------
        ValueError
            None of the metrics with a positive weight was measured.
        """
        weights = {m: w for m, w in check_priorities(priorities).items() if m in self.metrics}
        if not weights:
            raise ValueError(f"{self.name}: none of {', '.join(priorities)} was measured (measured: {', '.join(self.metrics)})")
        chosen = [METRICS[m] for m in weights]
        return copeland(
            self.values[[m.column for m in chosen]].to_numpy(float).T,
            list(weights.values()),
            directions=[m.direction for m in chosen],
            thresholds=[self.noise[m.name].threshold for m in chosen],
            absolute=[self.noise[m.name].absolute for m in chosen],
        )


@dataclass(frozen=True)
class Benchmark:
    """All tables with canonical identifiers, plus the shipped task tokens."""

    measurements: pd.DataFrame
    accuracies: pd.DataFrame
    models: pd.DataFrame
    shapes: pd.DataFrame
    devices: pd.DataFrame
    tasks: pd.DataFrame
    tokens: Tokens


def load_benchmark(data: Path | str = paths.DATA, validate: bool = False) -> Benchmark:
    """Read every table, flag the quirks and replace aliases by canonical identifiers.

    The shipped tables are guarded by checksums; pass ``validate=True`` for tables of one's own.

    Raises
    ------
    ValueError
        The folder holds no tables.
    lib.schema.DataError
        With ``validate``: a row breaks its schema (file, line, column, value and rule named).
    """
    data = Path(data)
    if not (data / "registry").is_dir() or not (data / "facts").is_dir():
        raise ValueError(f"{data}: holds no tables (expected the folders registry/ and facts/; add-device makes such a copy)")
    models, shapes, devices, tasks = (
        pd.read_csv(data / "registry" / f"{name}.csv", low_memory=False)
        for name in ("models", "model_shapes", "devices", "tasks"))
    tables: dict[str, list[pd.DataFrame]] = {"measurements": [], "accuracies": []}
    for folder in sorted(p for p in (data / "facts").iterdir() if p.is_dir()):
        for kind in tables:
            if (folder / f"{kind}.csv").exists() and folder.name != "transfer":
                tables[kind].append(read(folder / f"{kind}.csv", validate))
    measurements = quirks.without_unusable(quirks.add_flags(pd.concat(tables["measurements"], ignore_index=True)))
    accuracies = pd.concat([quirks.add_accuracy_flags(pd.concat(tables["accuracies"], ignore_index=True)),
                            _transfer(data / "facts" / "transfer", validate)], ignore_index=True)
    names = {key: registry.lookup(table.astype(object).fillna("").astype(str), key)
             for key, table in (("model_id", models), ("device_id", devices), ("task", tasks))}
    for table in (measurements, accuracies):
        table["task"] = table["task_type"] + "/" + table["dataset"]
        for key, canonical in names.items():
            table[key] = table[key].map(lambda name: canonical.get(name, name), na_action="ignore")
    return Benchmark(measurements, accuracies, models, shapes, devices, tasks, load_tokens(data / "tokens"))


def read(path: Path, validate: bool) -> pd.DataFrame:
    """A table; with ``validate`` row by row against its schema (slower, and pandera has to be loaded)."""
    if not validate:
        return pd.read_csv(path, low_memory=False)
    from lib import schema

    return schema.read_table(path, schema.schema_of(path))


def _transfer(folder: Path, validate: bool) -> pd.DataFrame:
    """Fine-tuned accuracies of ``transfer`` in the columns of the other accuracy tables (target set = task)."""
    frames = [read(folder / f"{name}.csv", validate) for name in ("accuracies", "accuracies_more") if (folder / f"{name}.csv").exists()]
    if not frames:
        return pd.DataFrame()
    table = quirks.add_accuracy_flags(pd.concat(frames, ignore_index=True)).rename(columns={"target_dataset": "dataset"})
    return table.assign(task_type="image_classification", precision="fp32", input_shape=None, device_id=None, target_set=True)


def build_queries(benchmark: Benchmark, suite: str | Suite, all_platforms: bool = False) -> list[Query]:
    """Join latencies with accuracies into the queries of a suite, in a stable order.

    Parameters
    ----------
    suite : name in :data:`SUITES`, or a suite of one's own.
    all_platforms : bool
        Also the other thread counts and power modes of a processor; by default one run configuration stands for
        it: most candidates first, then most threads.

    Raises
    ------
    ValueError
        Unknown suite.
    """
    if isinstance(suite, str) and suite not in SUITES:
        raise ValueError(f"suite '{suite}' is unknown (allowed: {', '.join(SUITES)})")
    return _Builder(benchmark, SUITES[suite] if isinstance(suite, str) else suite).queries(all_platforms)


def left_out(benchmark: Benchmark, suite: str) -> pd.DataFrame:
    """How many measurement rows of a suite's sources did not reach a query, by reason."""
    builder = _Builder(benchmark, SUITES[suite])
    builder.queries(all_platforms=True)
    return pd.DataFrame(sorted(builder.reasons.items()), columns=["reason", "rows"])


def describe(queries: Sequence[Query]) -> dict[str, int]:
    """Counts that a suite is summarised by."""
    return {
        "queries": len(queries),
        "tasks": len({q.task for q in queries}),
        "platforms": len({q.platform for q in queries}),
        "devices": len({q.platform.device_id for q in queries}),
        "SoC groups": len({q.soc for q in queries}),
        "candidates": sum(map(len, queries)),
        "architectures": len({m for q in queries for m in q.candidates["model_id"]}),
    }


def task_queries(queries: Sequence[Query]) -> list[Query]:
    """One query a task and accuracy source: accuracies do not change with the board, so repeats teach nothing."""
    best: dict[tuple[str, str], Query] = {}
    for q in queries:
        key = (q.source, q.task)
        if "accuracy" in q.metrics and (key not in best or len(q) > len(best[key])):
            best[key] = q
    return [best[k] for k in sorted(best)]


def platform_queries(queries: Sequence[Query]) -> list[Query]:
    """One query a platform with every variant that was measured on it: hardware metrics do not change with the task."""
    groups: dict[tuple, list[Query]] = {}
    for q in queries:
        groups.setdefault((q.source.split("+")[0], q.platform), []).append(q)
    out = []
    for key in sorted(groups, key=str):
        same = groups[key]
        table = pd.concat([pd.concat([q.candidates, q.values], axis=1) for q in same], ignore_index=True).drop_duplicates(VARIANT)
        table = table.reset_index(drop=True)
        out.append(replace(same[0], candidates=table[list(same[0].candidates)], values=table[list(same[0].values)], prototypes={}))
    return out


class _Builder:
    """The join of one suite; keeps count of what it leaves out."""

    def __init__(self, benchmark: Benchmark, suite: Suite) -> None:
        self.benchmark, self.suite = benchmark, suite
        self.reasons: dict[str, int] = {}

    def _drop(self, table: pd.DataFrame, mask: pd.Series, reason: str) -> pd.DataFrame:
        if mask.any():
            self.reasons[reason] = self.reasons.get(reason, 0) + int(mask.sum())
        return table[~mask]

    def measurements(self) -> pd.DataFrame:
        """Rows of the suite's sources that may be ranked; the newest of repeated runs of one configuration."""
        suite, devices = self.suite, self.benchmark.devices.set_index("device_id")
        table = self.benchmark.measurements
        table = table[table["source"].isin(suite.measurements)]
        table = self._drop(table, table["kind"] != "latency", "no latency of one inference")
        table = self._drop(table, table["excluded"], "a quirk forbids ranking (component, proxy, resubmitted, suspect ...)")
        if suite.processors:
            table = self._drop(table, ~table["processor"].isin(suite.processors), "other processor")
        if suite.precisions:
            table = self._drop(table, ~table["precision"].isin(suite.precisions), "no accuracy at this precision")
        if suite.device_classes:
            classes = table["device_id"].map(devices["device_class"])
            table = self._drop(table, ~classes.isin(suite.device_classes) & (table["source"] != OWN), "not an IoT-class device")
        table = table.assign(
            processor=_target_processor(table),
            memory_kib=table["ram_kib"].fillna(table["ram_internal_kib"] + table["ram_external_kib"].fillna(0)),
            storage_kib=table["flash_kib"].fillna(table["flash_weights_kib"]),
        )
        table = table.sort_values(["date", "latency_ms"], ascending=[False, True], kind="stable", na_position="last")
        keys = ["task", "model_name"] + VARIANT + PLATFORM
        return self._drop(table, table.duplicated(keys), "an older run of the same configuration")

    def joined(self) -> pd.DataFrame:
        """One row per task x platform x candidate, with accuracy (NaN in suites without one)."""
        m, suite = self.measurements(), self.suite
        if suite.join == "none":
            m = m[m["task"].notna() | m["task_type"].notna()]
            m = m.assign(task="any/any", accuracy=np.nan, pretrain_dataset=m["dataset"], training="", accuracy_source="", metric="")
        else:
            a = self.accuracies()
            on = {"source": ["task"] + VARIANT, "runtime": ["task", "runtime"] + VARIANT, "architecture": ["model_id"]}[suite.join]
            if suite.join == "architecture":
                # A fine-tuning study states no input shape: its networks run at the shape that the board measured.
                a = a.astype({"input_shape": object})  # an empty column has no type of its own
                stated = a[a["input_shape"].notna()]
                parts = [m.drop(columns=["task", "dataset"]).merge(stated, on=["model_id", "input_shape"], suffixes=("", "_a")),
                         m.drop(columns=["task", "dataset"]).merge(a[a["input_shape"].isna()].drop(columns="input_shape"),
                                                                   on="model_id", suffixes=("", "_a"))]
                joined = pd.concat(parts, ignore_index=True)
            else:
                joined = m.merge(a, on=on, suffixes=("", "_a"))
                same_file = joined["model_name"] == joined["model_name_a"]
                group = joined.groupby(["task", "metric", "model_name"] + VARIANT + PLATFORM, dropna=False)
                joined = joined[same_file | ~same_file.groupby([joined[k] for k in group.keys], dropna=False).transform("any")]
            matched = m[VARIANT].merge(joined[VARIANT].drop_duplicates(), on=VARIANT, how="left", indicator=True)
            self._drop(m.reset_index(drop=True), (matched["_merge"] == "left_only"), "no accuracy of this variant")
            m = joined
        keys = ["accuracy_source", "task", "metric"] + PLATFORM + VARIANT + ["pretrain_dataset", "training"]
        return m.drop_duplicates(keys)

    def accuracies(self) -> pd.DataFrame:
        """One accuracy per task, accuracy metric and PTM; only metrics of which more is better."""
        suite = self.suite
        a = self.benchmark.accuracies
        a = a[a["source"].isin(suite.accuracies)]
        a = a[a["metric"].isin(RANKABLE) & ~a["excluded"] & ~a["dataset"].isin(suite.left_out_datasets)]
        if suite.join == "runtime":
            runtime = a["note"].str.extract(r"runtime=(\w+)")[0]
            a = a.assign(runtime=runtime)[runtime.notna()]
        pretrain = a["pretrain_dataset"] if "pretrain_dataset" in a else pd.Series(np.nan, index=a.index)
        a = a.assign(
            pretrain_dataset=pretrain.fillna(a["dataset"]),
            training=_training(a),
            accuracy_source=zoo(a),
        )
        # model_traits lists several weights of one architecture: the tag tells them apart.
        keys = ["accuracy_source", "task", "metric", "training", "pretrain_dataset"] + VARIANT + ["runtime"] * (suite.join == "runtime")
        keys += ["model_name"] * (suite.join in ("source", "runtime"))
        grouped = a.groupby(keys, dropna=False, sort=False)["value"].mean().rename("accuracy").reset_index()
        if suite.join == "architecture":
            grouped = grouped.drop(columns="precision")
        return grouped

    def queries(self, all_platforms: bool) -> list[Query]:
        table = self.joined()
        slot = ["accuracy_source", "task", "metric", "device_id", "processor", "runtime"]
        networks = table.assign(network=pd.factorize(pd.MultiIndex.from_frame(table[VARIANT]))[0])
        sizes = networks.groupby(slot + ["threads", "power_mode"], dropna=False).agg(size=("network", "size"), networks=("network", "nunique")).reset_index()
        small = (sizes["size"] < MIN_CANDIDATES) | (sizes["networks"] < MIN_NETWORKS)
        if small.any():
            self.reasons["fewer than four candidates or three networks"] = int(sizes.loc[small, "size"].sum())
        sizes = sizes[~small]
        if not all_platforms:
            sizes = sizes.sort_values(["size", "threads", "power_mode"], ascending=[False, False, True], kind="stable")
            sizes = sizes.drop_duplicates(slot)
        # threads and power mode are often not stated: merge on them would need NaN keys, which pandas matches
        table = with_traits(self.benchmark, table.merge(sizes.drop(columns=["size", "networks"]), on=slot + ["threads", "power_mode"]))
        columns = ["model_id", "pretrain_dataset", "training", "input_shape", "precision"] + TRAITS
        values = [m.column for m in METRICS.values()]
        table = table[slot + ["threads", "power_mode", "source", "clock_mhz"] + columns + values]
        table[values] = table[values].astype(float)
        groups = [(key, rows.reset_index(drop=True)) for key, rows in
                  table.groupby(slot + ["threads", "power_mode"], dropna=False, sort=True)]
        devices = self.benchmark.devices.set_index("device_id").to_dict("index")
        parents = self.benchmark.tasks.set_index("task")["parent"].to_dict()
        return [self._query(key, rows, devices, parents) for key, rows in groups]

    def _query(self, key: tuple, rows: pd.DataFrame, devices: dict, parents: dict) -> Query:
        accuracy_source, task, metric, device_id, processor, runtime, threads, power_mode = key
        threads, power_mode = (None if pd.isna(v) else v for v in (threads, power_mode))
        device = devices[device_id]
        source = rows["source"].iloc[0] + (f"+{accuracy_source}" if self.suite.join == "architecture" else "")
        candidates = rows[["model_id", "pretrain_dataset", "training", "input_shape", "precision"] + TRAITS]
        return Query(
            self.suite.name, source, task,
            Platform(device_id, processor, runtime, None if threads is None else int(threads), power_mode),
            device.get("soc_group") or device_id, parents.get(task, task), candidates,
            rows[[m.column for m in METRICS.values()]],
            platform_specs(device, processor, runtime, threads, power_mode, _first(rows["clock_mhz"])),
            self.benchmark.tokens.get(task), metric, noise(source, task, metric, float(rows["accuracy"].median())),
        )


def with_traits(benchmark: Benchmark, table: pd.DataFrame) -> pd.DataFrame:
    """Add the traits of each row's architecture at its input shape (columns of :data:`TRAITS`)."""
    static = benchmark.models.set_index("model_id")[["family", "architecture", "year"]]
    pairs = table[["model_id", "input_shape"]].drop_duplicates()
    figures = {
        (m, s): registry.traits(benchmark.models, benchmark.shapes, m, "" if pd.isna(s) else s)
        for m, s in pairs.itertuples(index=False)
    }
    keys = list(zip(table["model_id"], table["input_shape"]))
    columns = {c: [figures[k][c] for k in keys] for c in ("params_m", "macs_m", "macts_m", "size_mib")}
    columns |= {c: table["model_id"].map(static[c]).to_numpy() for c in static}
    return table.drop(columns=[c for c in TRAITS if c in table]).reset_index(drop=True).assign(**columns)


#: A source that fine-tuned several sets of models apart has several zoos: their accuracies are never ranked together.
ZOOS = {"DATA_FTD_SPECIFIC_RANK": "model_spider_multi_source", "DATA_SPECIFIC_RANK": "model_spider_ten", "tw_group1": "sfda_supervised",
        "tw_group2": "sfda_self_supervised", "MoCo": "tllib_moco", "Supervised": "tllib_supervised", "Mixer": "vit_jax_mixer", "LiT": "vit_jax_lit"}


def zoo(accuracies: pd.DataFrame) -> pd.Series:
    """Which separately trained set of models an accuracy belongs to; for most sources the source itself."""
    out = accuracies["source"].astype(object)
    for word, name in reversed(ZOOS.items()):
        mine = accuracies["source_ref"].str.contains(word, regex=False) & accuracies["source"].map(lambda s, n=name: n.startswith(s))
        out = out.where(~mine, name)
    return out


def transfer_queries(benchmark: Benchmark, least: int = MIN_CANDIDATES) -> list[Query]:
    """Accuracy-only queries of every fine-tuning study: one per zoo and target data set, no platform.

    They teach the task ranker what a handful of boards cannot: which PTM suits which data.
    """
    a = benchmark.accuracies
    a = a[a["target_set"].fillna(False).astype(bool) & ~a["excluded"] & a["metric"].isin(RANKABLE)]
    a = a.assign(zoo=zoo(a), training=a["training"].fillna(""), pretrain_dataset=a["pretrain_dataset"].fillna(""))
    keys = ["zoo", "task", "metric"]
    ptm = ["model_id", "pretrain_dataset", "training"]
    if a.empty:
        return []
    # several ways of training of one network: only the published name tells them apart
    a["training"] = a["training"].where(~a.duplicated(keys + ptm, keep=False), a["model_name"])
    table = a.groupby(keys + ptm, sort=True)["value"].mean().rename("accuracy").reset_index().assign(input_shape=None, precision="fp32")
    table = with_traits(benchmark, table).assign(**{m.column: np.nan for m in METRICS.values() if m.name != "accuracy"})
    parents = benchmark.tasks.set_index("task")["parent"].to_dict()
    columns = ["model_id", "pretrain_dataset", "training", "input_shape", "precision"] + TRAITS
    return [
        Query("transfer", name, task, Platform("any", "any", "any"), "any", parents.get(task, task), rows[columns],
              rows[[m.column for m in METRICS.values()]], {}, benchmark.tokens.get(task), metric,
              noise(name, task, metric, float(rows["accuracy"].median())))
        for (name, task, metric), group in table.groupby(keys) if len(rows := group.reset_index(drop=True)) >= least
    ]


def _training(a: pd.DataFrame) -> pd.Series:
    """What tells PTMs of one architecture and pre-training set apart: the weights' tag or the way of training."""
    tag = a["model_name"].where(a["source"].isin(["model_traits", "torchvision"]))
    return tag.fillna(a["training"]).fillna("")


def _target_processor(table: pd.DataFrame) -> pd.Series:
    """AI Hub jobs are compiled for the NPU; where most layers fell back, the figure is still what its user gets."""
    return table["processor"].where(table["source"] != "qaihub", "npu")


def _first(column: pd.Series) -> float | None:
    known = column.dropna()
    return float(known.iloc[0]) if len(known) else None


#: Data-sheet fields that Ψh reads. Identity (names, SoC) is left out on purpose: it would not transfer.
SPECIFICATIONS = ("device_class", "isa", "core_type", "cores", "clock_mhz", "simd", "ram_mib", "mem_type",
                  "mem_bandwidth_gbs", "flash_mib", "l1_kib", "l2_kib", "gpu", "npu", "npu_tops", "tdp_w", "process_nm",
                  "year", "vendor", "dotprod", "gpu_clock_mhz", "peak_gmacs", "peak_gmacs_int8")


def platform_specs(device: Mapping[str, object], processor: str | None = None, runtime: str | None = None,
                   threads: float | None = None, power_mode: str | None = None,
                   clock_mhz: float | None = None) -> dict[str, float | str]:
    """Known specification fields of a platform; numbers as floats, words as lower-case strings."""
    fields = {k: device.get(k) for k in SPECIFICATIONS}
    fields |= {"processor": processor, "runtime": runtime, "threads": threads, "power_mode": power_mode}
    if clock_mhz:
        fields["clock_mhz"] = clock_mhz
    specs: dict[str, float | str] = {}
    for name, value in fields.items():
        if value is None or (isinstance(value, float) and np.isnan(value)) or value == "":
            continue
        try:
            specs[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            specs[name] = str(value).strip().lower()
    return specs


def thin(queries: Sequence[Query], per_platform: int = 4, seed: int = 0) -> list[Query]:
    """At most ``per_platform`` tasks of each platform, drawn at random: every board keeps a voice at a fraction of the cost."""
    groups: dict[str, list[Query]] = {}
    for q in queries:
        groups.setdefault(f"{q.suite} {q.platform}", []).append(q)
    keep = {id(q) for name, same in sorted(groups.items())
            for q in np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(np.array(same, object))[:per_platform]}
    return [q for q in queries if id(q) in keep]


def study_queries(benchmark: Benchmark, seed: int = 0) -> tuple[list[Query], list[Query]]:
    """The queries that the study evaluates on, and those that only train (fine-tuning studies, boards without accuracies)."""
    suites = {name: build_queries(benchmark, name) for name in SUITES}
    return suites["mcu"] + thin(suites["sbc"], seed=seed) + suites["npu"], transfer_queries(benchmark) + suites["latency"]
