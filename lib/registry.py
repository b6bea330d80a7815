"""Canonical registries: one row per architecture, device and task over all sources.

``python -m lib.registry`` rebuilds ``data/registry/{models,model_shapes,devices,tasks}.csv`` from the fact tables and the
small hand-kept tables of ``data/registry/overrides``. No cell is guessed: ``provenance`` names for every completed cell
its kind (``published``, ``computed``, ``data sheet``, ``common knowledge``) and where it comes from.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

import pandas as pd

from lib import paths

MODEL_COLUMNS = ["model_id", "aliases", "family", "architecture", "task_type", "input_shape", "params_m", "macs_m",
                 "macts_m", "size_mib", "year", "provenance", "conflict", "note"]
SHAPE_COLUMNS = ["model_id", "input_shape", "params_m", "macs_m", "macts_m", "size_mib", "provenance"]
DEVICE_COLUMNS = ["device_id", "aliases", "soc_group", "device_name", "vendor", "soc", "device_class", "isa",
                  "core_type", "cores", "clusters", "clock_mhz", "simd", "dotprod", "peak_gmacs", "peak_gmacs_int8",
                  "ram_mib", "mem_type", "mem_bandwidth_gbs", "flash_mib", "l1_kib", "l2_kib", "gpu", "gpu_clock_mhz",
                  "npu", "npu_tops", "tdp_w", "process_nm", "year", "os", "note", "provenance"]
TASK_COLUMNS = ["task", "task_type", "dataset", "aliases", "parent", "n_classes", "class_names", "description", "metric",
                "domain", "provenance"]
FIGURES = ["params_m", "macs_m", "macts_m", "size_mib"]
#: Sources by how exactly they state parameters and MACs; a figure of an earlier one is preferred.
PRIORITY = ("torchvision", "mlperf_tiny", "ncnn", "nxp", "hailo", "stm32", "ti", "vitis", "model_traits", "qaihub",
            "espressif", "arm_mlzoo", "axera", "coral", "paddle_lite", "rockchip", "transfer")
#: Sources whose parameter and MAC counts were counted in the network's file instead of read from a page.
COUNTED = {"ncnn", "mlperf_tiny"}
#: Data sets that fix the head of a network: their counts describe the network as its authors published it.
REFERENCE_DATA = {"imagenet", "coco", "speech_commands_v2", "toyadmos"}
AGREEMENT = 0.10


class Registries(NamedTuple):
    """The four tables, every cell a string, empty when unknown."""

    models: pd.DataFrame
    devices: pd.DataFrame
    tasks: pd.DataFrame
    shapes: pd.DataFrame


def read(path: Path) -> pd.DataFrame:
    """CSV with every cell a string."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def fact_tables(facts: Path, name: str = "*") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield ``(source, table, frame)`` of every fact table whose name matches, in alphabetical order."""
    for path in sorted(facts.glob(f"*/{name}.csv")):
        yield path.parent.name, path.stem, read(path)


def canonical_shape(text: str) -> str:
    """Image sizes written ``HxW`` get their three channels; every other shape is returned as it is."""
    numbers = re.fullmatch(r"(\d+)x(\d+)", text or "")
    if numbers and all(96 <= int(n) <= 4096 for n in numbers.groups()):
        return text + "x3"
    return text or ""


def area(shape: str) -> float | None:
    """Height times width of an image shape ``HxWxC`` (channels 1 or 3), else None."""
    match = re.fullmatch(r"(\d+)x(\d+)x[13]", canonical_shape(shape))
    return float(match[1]) * float(match[2]) if match else None


def lookup(registry: pd.DataFrame, key: str) -> dict[str, str]:
    """Map every identifier and alias of a registry to its row's identifier.

    Raises
    ------
    ValueError
        If one name belongs to two rows.
    """
    names: dict[str, str] = {}
    for row, aliases in zip(registry[key], registry["aliases"].fillna("")):
        for name in [row, *filter(None, aliases.split("|"))]:
            if names.setdefault(name, row) != row:
                raise ValueError(f"registry {key}: '{name}' belongs to '{names[name]}' and to '{row}'")
    return names


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: float) -> str:
    return f"{value:.6g}"


# ---------------------------------------------------------------------------------------------------------- models

def model_aliases(facts: Path, overrides: Path) -> dict[str, str]:
    """Published spelling -> canonical ``model_id``; a hand-kept row wins, a row naming itself keeps a network apart."""
    hand = read(overrides / "model_aliases.csv")
    names: dict[str, str] = {}
    for row in read(facts / "model_traits" / "model_id_map.csv").itertuples():
        for alias in {row.timm_architecture, *row.on_device_model_ids.split("|")}:
            names[alias] = row.model_id
    names.update(zip(hand["alias"], hand["model_id"]))
    return {alias: names.get(model, model) for alias, model in names.items()}


def _model_rows(facts: Path) -> pd.DataFrame:
    """Every row that names a model, of every table, with the columns that describe it."""
    columns = ["model_id", "family", "architecture", "task_type", "dataset", "input_shape", "precision", "year", *FIGURES]
    frames = []
    for source, table, frame in fact_tables(facts):
        if "model_id" in frame:
            described = table.startswith("models")
            part = frame.reindex(columns=columns if described else ["model_id", "task_type", "input_shape"], fill_value="")
            part = part if described else part.drop_duplicates()
            frames.append(part.assign(source=source, described=described))
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows["published_id"], rows["input_shape"] = rows["model_id"], rows["input_shape"].map(canonical_shape)
    return rows[rows["model_id"] != ""]


def _kind(source: str) -> str:
    return f"{'computed' if source in COUNTED else 'published'}:{source}"


def _best(figures: pd.DataFrame, column: str) -> tuple[str, str]:
    """Preferred figure of a column and its kind: by source, among those that agree with the median when three do."""
    stated = figures[figures[column] != ""]
    if stated.empty:
        return "", ""
    values = stated[column].astype(float)
    near = stated[(values - values.median()).abs() <= AGREEMENT * values.median()]
    row = (near if len(stated) > 2 and len(near) else stated).iloc[0]
    return row[column], _kind(row["source"])


def _disagreement(figures: pd.DataFrame, column: str) -> str:
    """``macs_m 17% (hailo 3490, torchvision 4089)`` when sources differ by more than the agreed share."""
    stated = figures[figures[column] != ""].drop_duplicates("source")
    values = stated[column].astype(float)
    if len(stated) < 2 or values.min() <= 0 or values.max() / values.min() - 1 <= AGREEMENT:
        return ""
    low, high = stated.loc[values.idxmin()], stated.loc[values.idxmax()]
    return (f"{column} {100 * (values.max() / values.min() - 1):.0f}% "
            f"({low['source']} {low[column]}, {high['source']} {high[column]})")


def _shape_rows(model: str, figures: pd.DataFrame) -> list[dict[str, str]]:
    rows = []
    for shape, group in figures.groupby("input_shape", sort=False):
        row, kinds = {"model_id": model, "input_shape": shape}, []
        for column in FIGURES:
            plain = group[~group["precision"].str.contains("int8")] if column == "size_mib" else group
            row[column], kind = _best(plain, column)
            kinds += [f"{column}={kind}"] if kind else []
        if kinds:
            rows.append(row | {"provenance": ";".join(kinds)})
    return rows


def _family(model: str, rules: pd.DataFrame) -> dict[str, str]:
    """Rule with the longest prefix of the identifier."""
    hits = [rule for rule in rules.to_dict("records") if model.startswith(rule["prefix"])]
    return max(hits, key=lambda rule: len(rule["prefix"])) if hits else {}


def _mode(values: pd.Series) -> str:
    stated = values[values != ""]
    return "" if stated.empty else stated.value_counts(sort=False).sort_index().idxmax()


def build_models(facts: Path, overrides: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per architecture, and one per architecture and input shape with a stated figure."""
    names, rows = model_aliases(facts, overrides), _model_rows(facts)
    rules, cells = read(overrides / "families.csv"), read(overrides / "model_cells.csv")
    ignored = set(zip(*(read(overrides / "ignored_figures.csv")[c] for c in ("source", "published_id", "column"))))
    for column in FIGURES:
        bad = [(s, m, column) in ignored for s, m in zip(rows["source"], rows["published_id"])]
        rows.loc[bad, column] = ""
    rows["model_id"] = rows["published_id"].map(lambda name: names.get(name, name))
    spellings = pd.Series(names).groupby(pd.Series(names)).groups
    rows["order"] = [(s not in PRIORITY, PRIORITY.index(s) if s in PRIORITY else 0, d not in REFERENCE_DATA, shape)
                     for s, d, shape in zip(rows["source"], rows["dataset"], rows["input_shape"])]
    models, shapes = [], []
    for model, group in rows.groupby("model_id"):
        group = group.sort_values("order", kind="stable")
        figures = group[group["described"]]
        known = _shape_rows(model, figures)
        shapes += known
        # The reference shape is one with MACs, best that of the original paper (224 x 224 for classifiers).
        reference = next(iter(sorted(known, key=lambda r: (r["macs_m"] == "", r["input_shape"] != "224x224x3"))), {})
        row = {"model_id": model, "note": "", "input_shape": reference.get("input_shape", "") or _mode(group["input_shape"])}
        kinds: dict[str, str] = dict(p.split("=", 1) for p in reference.get("provenance", "").split(";") if p)
        row |= {column: reference.get(column, "") for column in FIGURES}
        if not row["params_m"]:
            row["params_m"], kinds["params_m"] = _best(figures, "params_m")
        rule = _family(model, rules)
        for column in ("family", "architecture", "year"):
            row[column] = rule.get(column, "") or _mode(figures[column])
            kinds[column] = "common knowledge:name" if rule.get(column) else _kind(_source(figures, column))
        row["task_type"] = _mode(group["task_type"])
        for cell in cells[cells["model_id"] == model].itertuples():
            row[cell.column], kinds[cell.column] = cell.value, f"{cell.kind}:{cell.basis}"
        if row["params_m"] and not row["size_mib"]:
            row["size_mib"] = _text(float(row["params_m"]) * 4e6 / 2**20)
            kinds["size_mib"] = "computed:4 bytes a parameter"
        same = figures[figures["input_shape"] == row["input_shape"]]
        row["conflict"] = ";".join(filter(None, (_disagreement(figures, "params_m"), _disagreement(same, "macs_m"))))
        row["aliases"] = "|".join(sorted((set(group["published_id"]) | set(spellings.get(model, ()))) - {model}))
        row["provenance"] = ";".join(f"{c}={k}" for c, k in sorted(kinds.items()) if row.get(c) and k)
        models.append(row)
    table = pd.DataFrame(models).reindex(columns=MODEL_COLUMNS, fill_value="").fillna("")
    lookup(table, "model_id")
    return table, pd.DataFrame(shapes).reindex(columns=SHAPE_COLUMNS, fill_value="")


def _source(figures: pd.DataFrame, column: str) -> str:
    stated = figures[figures[column] != ""]
    return stated["source"].iloc[0] if len(stated) else ""


def traits(models: pd.DataFrame, shapes: pd.DataFrame, model_id: str, input_shape: str = "") -> dict[str, object]:
    """Parameters, MACs, activations and size of an architecture at one input shape.

    Stated figures where the shape is known; for convolutional networks MACs and activations are else scaled from the
    stated image size that is nearest in area, by the ratio of height times width (provenance ``computed``). An unknown
    shape means the reference shape of the registry.

    Returns
    -------
    dict
        ``params_m, macs_m, macts_m`` (millions), ``size_mib`` (float or None), ``input_shape``, ``provenance``.
    """
    rows = models[models["model_id"] == model_id]
    if rows.empty:
        raise ValueError(f"models.csv: no architecture '{model_id}'")
    base, shape = rows.iloc[0].fillna(""), canonical_shape(input_shape)
    shape = shape or base["input_shape"]
    out: dict[str, object] = {c: _number(str(base[c])) for c in ("params_m", "size_mib")}
    out |= {"macs_m": None, "macts_m": None, "input_shape": shape, "provenance": "published"}
    known = shapes[(shapes["model_id"] == model_id)].fillna("")
    exact = known[known["input_shape"] == shape]
    for column in FIGURES:
        value = _number(str(exact.iloc[0][column])) if len(exact) else None
        if value is None and shape == base["input_shape"]:
            value = _number(str(base[column]))
        out[column] = out.get(column) if value is None else value
    here = area(shape)
    for column in ("macs_m", "macts_m"):
        stated = [(area(s), _number(str(v))) for s, v in zip(known["input_shape"], known[column])]
        stated = [(a, v) for a, v in stated if a and v]
        if out[column] is None and here and stated and base["architecture"] == "cnn":
            nearest, value = min(stated, key=lambda item: abs(item[0] / here - 1))
            out[column], out["provenance"] = value * here / nearest, "computed"
    return out


# --------------------------------------------------------------------------------------------------------- devices

def build_devices(facts: Path, overrides: Path) -> pd.DataFrame:
    """One row per board, phone, chip or machine."""
    hand = read(overrides / "device_aliases.csv")
    names = dict(zip(hand["alias"], hand["device_id"]))
    frames = [f.assign(source=s) for s, _, f in fact_tables(facts, "devices") if len(f)]
    rows = pd.concat(frames, ignore_index=True).fillna("")
    rows["published_id"] = rows["device_id"]
    rows["device_id"] = rows["published_id"].map(lambda name: names.get(name, name))
    boards = read(overrides / "boards.csv").set_index("device_id").to_dict("index")
    out = []
    for device, group in rows.groupby("device_id"):
        row = {"device_id": device, "soc_group": boards.get(device, {}).get("soc_group", "") or device}
        kinds = {}
        for column in DEVICE_COLUMNS[3:-1]:
            stated = group[group[column] != ""] if column in group else group.iloc[:0]
            row[column] = stated[column].iloc[0] if len(stated) else ""
            if row[column] and column not in ("device_name", "note"):
                kinds[column] = f"published:{stated['source'].iloc[0]}"
        row["aliases"] = "|".join(sorted((set(group["published_id"]) |
                                          {a for a, d in names.items() if d == device}) - {device}))
        row["provenance"] = ";".join(f"{c}={k}" for c, k in kinds.items())
        out.append(row)
    table = pd.DataFrame(out).reindex(columns=DEVICE_COLUMNS, fill_value="").fillna("")
    lookup(table, "device_id")
    return table


# ----------------------------------------------------------------------------------------------------------- tasks

def build_tasks(facts: Path, overrides: Path) -> pd.DataFrame:
    """One row per task type and data set of any measurement, accuracy or transfer target."""
    hand = read(overrides / "datasets.csv").set_index("dataset").to_dict("index")
    alias = {a: d for d, cells in hand.items() for a in cells["aliases"].split("|") if a}
    pairs: dict[tuple[str, str], set[str]] = {}
    metrics: dict[tuple[str, str], list[str]] = {}

    def add(task_type: str, dataset: str, metric: str = "") -> None:
        key = (task_type, alias.get(dataset, dataset))
        pairs.setdefault(key, set()).add(dataset)
        metrics.setdefault(key, []).append(metric)

    for source, table, frame in fact_tables(facts):
        if table in ("measurements", "accuracies") and source != "transfer":
            for item in frame.reindex(columns=["task_type", "dataset", "metric"], fill_value="").itertuples(index=False):
                add(*item)
        elif source == "transfer" and "target_dataset" in frame:
            for dataset, metric in zip(frame["target_dataset"], frame["metric"]):
                add("image_classification", dataset, metric)
    described = pd.concat([f.assign(source=t) for s, t, f in fact_tables(facts, "datasets*") if s == "transfer"]).fillna("")
    described = described.assign(slug=[alias.get(s, s) for s in described["slug"]])
    out = []
    for (task_type, dataset), spelled in sorted(pairs.items()):
        facts_rows = described[described["slug"] == dataset]
        cells = hand.get(dataset, {})
        row = {"task": f"{task_type}/{dataset or 'unstated'}", "task_type": task_type, "dataset": dataset,
               "aliases": "|".join(f"{task_type}/{s}" for s in sorted(spelled - {dataset}) if s),
               "parent": cells.get("parent", "") or dataset, "metric": _mode(pd.Series(metrics[(task_type, dataset)]))}
        for column in ("n_classes", "class_names", "domain"):
            row[column] = cells.get(column, "") or _first(facts_rows, column)
        row["description"] = cells.get("description", "")
        out.append(row)
    table = pd.DataFrame(out).reindex(columns=TASK_COLUMNS, fill_value="").fillna("")
    lookup(table, "task")
    return table


def _first(rows: pd.DataFrame, column: str) -> str:
    stated = rows[rows[column] != ""] if column in rows else rows.iloc[:0]
    return stated[column].iloc[0] if len(stated) else ""


def build(facts: Path = paths.FACTS, overrides: Path | None = None) -> Registries:
    """Every registry, from the fact tables and the hand-kept tables."""
    overrides = overrides or paths.REGISTRY / "overrides"
    models, shapes = build_models(facts, overrides)
    return Registries(models, build_devices(facts, overrides), build_tasks(facts, overrides), shapes)


def main(arguments: list[str] | None = None) -> None:
    """Rebuild the registries beside the facts (or from the facts folder that is named)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    tables = build(Path(arguments[0]) if arguments else paths.FACTS)
    for name, table in zip(("models", "devices", "tasks", "model_shapes"), tables):
        table.to_csv(paths.REGISTRY / f"{name}.csv", index=False, lineterminator="\n")
        print(f"{name}.csv: {len(table)} rows")


if __name__ == "__main__":
    main()
