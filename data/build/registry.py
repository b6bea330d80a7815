"""Canonical registries: one row per architecture, device and task over all sources.

They are built from the facts and the hand-kept tables of ``data/registry/overrides``. No cell is guessed:
``provenance`` names for every filled cell its kind (published, computed, data sheet, common knowledge) and where
it comes from.
"""
from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Iterable, Iterator, NamedTuple

import pandas as pd

from lib import paths
from lib.registry import FIGURES, canonical_shape, lookup, read

Row = dict[str, str]
OVERRIDES = paths.REGISTRY / "overrides"
CELLS = ("device_name vendor soc device_class isa core_type cores clusters clock_mhz simd dotprod peak_gmacs "
         "peak_gmacs_int8 ram_mib mem_type mem_bandwidth_gbs flash_mib l1_kib l2_kib gpu gpu_clock_mhz npu "
         "npu_tops tdp_w process_nm year os note").split()
#: Sources by how exactly they state parameters and MACs; a figure of an earlier one is preferred.
PRIORITY = "torchvision counted mlperf_tiny ncnn nxp hailo stm32 ti vitis model_traits qaihub".split()
COUNTED = {"ncnn", "mlperf_tiny"}  # counted in the network's file what others state on a page
#: Data sets whose head is that of the network as its authors published it: their figures are preferred.
REFERENCE_DATA = {"imagenet", "coco", "speech_commands_v2", "toyadmos"}
#: The first of these metrics that a task has ranks its models.
METRICS = "top1 map50_95 mask_map50_95 keypoint_ap miou auc accuracy map map50".split()
LAYOUT = ("core_type", "cores", "clock_mhz")  # follow from the clusters
CLOCK, CLOCK_FIRST = r"@[\d.]+", re.compile(r"\d+x[^@ ]+@")
AGREEMENT = 0.10  # figures of one network differ less than this share, else its row has a ``conflict``
#: The four tables, every cell text, empty when unknown.
Registries = NamedTuple("Registries", [
    (table, pd.DataFrame) for table in "models devices tasks model_shapes".split()])


def pretraining_parent(name: str, overrides: Path = OVERRIDES) -> str:
    """``parent`` of the data set whose images a pre-training saw: ``moco_v2_imagenet`` -> ``imagenet``."""
    rules = read(overrides / "pretraining.csv").itertuples(index=False, name=None)
    datasets = read(overrides / "datasets.csv").set_index("dataset")["parent"]
    return next((parent for rule, parent in rules if re.fullmatch(rule, name)), datasets.get(name) or name)


def _tables(facts: Path, name: str = "*") -> Iterator[tuple[str, str, pd.DataFrame]]:
    """``(source, table, frame)`` of every fact table whose name matches, in alphabetical order."""
    return ((path.parent.name, path.stem, read(path)) for path in sorted(facts.glob(f"*/{name}.csv")))


def _pairs(path: Path) -> Row:
    """First column of a table -> second column."""
    return dict(read(path).iloc[:, :2].itertuples(index=False, name=None))


def _join(kinds: Row, row: Row) -> str:
    return ";".join(f"{column}={kind}" for column, kind in sorted(kinds.items()) if row.get(column) and kind)


def _aliases(names: Iterable[str], row: str) -> str:
    return "|".join(sorted(set(names) - {row, ""}))


def _mode(values: Iterable[str]) -> str:
    counts = Counter(v for v in values if v)
    return min(counts, key=lambda v: (-counts[v], v)) if counts else ""


def _model_rows(facts: Path, overrides: Path) -> tuple[Row, dict[str, list[dict]]]:
    """Spelling -> canonical model; canonical model -> its rows of every table, the preferred ones first."""
    names: Row = {}
    for row in read(facts / "model_traits" / "model_id_map.csv").itertuples():
        names |= dict.fromkeys([row.timm_architecture, *row.on_device_model_ids.split("|")], row.model_id)
    names |= _pairs(overrides / "model_aliases.csv")  # these win; one that names itself keeps a network apart
    names = {alias: names.get(model, model) for alias, model in names.items()}
    columns = [*"model_id family architecture task_type dataset input_shape precision year".split(), *FIGURES]
    frames = [read(overrides / "figures.csv").assign(source="counted", described=True)]
    for source, table, frame in _tables(facts):
        if "model_id" in frame:
            known = table.startswith("models")
            keep = columns if known else ["model_id", "task_type", "input_shape"]
            frame = frame.reindex(columns=keep, fill_value="").drop_duplicates()
            frames.append(frame.assign(source=source, described=known))
    ignored = set(read(overrides / "ignored_figures.csv").iloc[:, :3].itertuples(index=False, name=None))
    groups: dict[str, list[dict]] = defaultdict(list)
    rows = pd.concat(frames, ignore_index=True).fillna("")
    for row in rows[rows["model_id"] != ""].to_dict("records"):
        source, published, scoped = row["source"], row["model_id"], f"{row['source']}:{row['model_id']}"
        row |= {column: "" for column in FIGURES if (source, published, column) in ignored}
        row |= {"published": scoped if scoped in names else published,
                "input_shape": canonical_shape(row["input_shape"]),
                "kind": row["kind"] or ("computed:" if source in COUNTED else "published:") + source}
        row["order"] = (PRIORITY.index(source) if source in PRIORITY else len(PRIORITY),
                        row["kind"].startswith("common"), row["dataset"] not in REFERENCE_DATA,
                        row["input_shape"], -float(row["macs_m"] or 0))  # some names print MACs as operations
        groups[names.get(scoped) or names.get(published, published)].append(row)
    return names, {model: sorted(groups[model], key=lambda r: r["order"]) for model in sorted(groups)}


def _best(rows: list[dict], column: str) -> tuple[str, str]:
    """First figure of a column and its kind; where three sources state one, the first near the median."""
    stated = [r for r in rows if r[column] and (column != "size_mib" or r["precision"] in ("", "fp32"))]
    middle = median([float(r[column]) for r in stated] or [0])
    near = [r for r in stated if abs(float(r[column]) - middle) <= AGREEMENT * middle]
    chosen = near if near and len({r["source"] for r in stated}) > 2 else stated
    return (chosen[0][column], chosen[0]["kind"]) if chosen else ("", "")


def _disagreement(rows: list[dict], column: str) -> str:
    """``macs_m 17% (hailo 3490, torchvision 4089)`` when figures differ by more than the agreed share."""
    stated = sorted((float(r[column]), f"{r['source']} {r[column]}") for r in rows if r[column]) or [(1, "")]
    (low, least), (high, most) = stated[0], stated[-1]
    return f"{column} {high / low - 1:.0%} ({least}, {most})" if high > (1 + AGREEMENT) * low else ""


def _models(facts: Path, overrides: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per architecture, and one per architecture and input shape with a stated figure."""
    (names, groups), models, shapes = _model_rows(facts, overrides), [], []
    rules = {rule["prefix"]: rule for rule in read(overrides / "families.csv").to_dict("records")}
    notes = _pairs(overrides / "model_notes.csv")
    for model, rows in groups.items():
        described, known = [r for r in rows if r["described"]], []
        for shape in dict.fromkeys(r["input_shape"] for r in described):
            best = {c: _best([r for r in described if r["input_shape"] == shape], c) for c in FIGURES}
            row = {"model_id": model, "input_shape": shape} | {c: value for c, (value, _) in best.items()}
            row["provenance"] = _join({c: kind for c, (_, kind) in best.items()}, row)
            known += [row] if row["provenance"] else []
        # The reference shape is one with MACs, best that of the original paper (224 x 224 for classifiers).
        reference = min(known, key=lambda r: (r["macs_m"] == "", r["input_shape"] != "224x224x3"), default={})
        shape = reference.get("input_shape") or _mode(r["input_shape"] for r in rows)
        spelled = {r["published"] for r in rows} | {alias for alias, name in names.items() if name == model}
        row = {"model_id": model, "aliases": _aliases(spelled, model), "input_shape": shape,
               "task_type": _mode(r["task_type"] for r in rows), "note": notes.get(model, "")}
        here, kinds = [r for r in described if r["input_shape"] == shape], {}
        for column, scope in zip(FIGURES, (described, here, here, described)):
            row[column], kinds[column] = _best(scope, column)
        if row["params_m"] and not row["size_mib"]:
            row["size_mib"] = f"{float(row['params_m']) * 4e6 / 2**20:.6g}"
            kinds["size_mib"] = "computed:4 bytes a parameter"
        rule = rules.get(next((model[:n] for n in range(len(model), 0, -1) if model[:n] in rules), ""), {})
        for column in ("family", "architecture", "year"):
            stated = _mode(r[column] for r in described)
            row[column], kinds[column] = rule.get(column) or stated, "common knowledge:name"
            if column == "year" and stated and not rule.get(column):
                kinds[column] = "published:" + next(r["source"] for r in described if r["year"] == stated)
        conflicts = _disagreement(described, "params_m"), _disagreement(here, "macs_m")
        models.append(row | {"provenance": _join(kinds, row), "conflict": "; ".join(filter(None, conflicts))})
        shapes += known
    columns = [*"model_id aliases family architecture task_type input_shape".split(), *FIGURES, "year"]
    return (pd.DataFrame(models, columns=[*columns, "provenance", "conflict", "note"]),
            pd.DataFrame(shapes, columns=["model_id", "input_shape", *FIGURES, "provenance"]))


def _published(column: str, rows: list[dict]) -> tuple[str, str]:
    """First stated cell and its kind; a source says in its note which cells are common knowledge."""
    row = next((r for r in rows if r.get(column)), {column: "", "note": "", "source": ""})
    known, stem = row["note"].partition("spec: common knowledge")[2], column.partition("_")[0].rstrip("s")
    pattern = rf"\b{column}\b" + (f"|{stem}" if len(stem) > 2 else "")
    common = re.search(pattern, known.partition(";")[0], re.IGNORECASE)
    return row[column], f"{'common knowledge' if common else 'published'}:{row['source']}"


def _read_cells(overrides: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """``(device, chip or core, column)`` -> value and the documents in which it was read, ``|`` between."""
    known = set(read(overrides / "documents.csv")["document"])
    cells: dict[tuple[str, str], tuple[str, str]] = {}
    for cell in read(overrides / "document_cells.csv").itertuples():
        missing, key = set(cell.document.split("|")) - known, (cell.subject, cell.column)
        if missing or key in cells:
            raise ValueError(f"document_cells.csv: {cell.subject} {cell.column}: "
                             + (f"no document '{min(missing)}' in documents.csv" if missing else "stated twice"))
        cells[key] = cell.value, cell.document
    return cells


def _confirm(row: Row, kinds: Row, column: str, stated: tuple[str, str], subject: str) -> None:
    """Let a document fill an empty cell, or stand for memory as the origin of the very same value.

    A cell that a source publishes, or that was emptied on purpose, is left alone. Clusters without all the clocks
    that the cell has confirm nothing; the clock of the first one may be the board's own, published elsewhere.
    Raises ValueError where the document contradicts what was typed.
    """
    (value, document), cell, kind = stated, row[column], kinds.get(column, "")
    if cell and not kind.startswith("common") or not cell and kind.startswith("unknown"):
        return
    if column == "clusters" and re.sub(CLOCK, "", cell or value) == re.sub(CLOCK, "", value):
        own = bool(row["clock_mhz"]) and not kinds["clock_mhz"].startswith("common")
        asked, told = (re.sub(CLOCK, "", text, count=1) if own and CLOCK_FIRST.match(text) else text
                       for text in (cell or value, value))
        if asked != told or row["clock_mhz"] and not own and f"@{row['clock_mhz']}" not in value.split()[0]:
            return
        value = cell or value
    if cell not in ("", value):
        raise ValueError(f"document_cells.csv: {subject} {column}: '{value}' in {document}, but '{cell}' was typed")
    row[column], kinds[column] = value, f"data sheet:{document}"


def _processor(row: Row, kinds: Row, cores: dict[str, Row], documents: dict[tuple[str, str], tuple[str, str]]) -> None:
    """Fill what follows from the clusters, ``4xcortex-a76@2400 4xcortex-a55@1800`` (MHz), the fastest first.

    Peak = sum over clusters of cores x MHz x multiply-accumulates a cycle / 1000, in 10^9 a second.
    ``cores.csv`` holds those of one core: fp32 lanes x pipes of its vector unit; in int8 four times as many with
    dot-product instructions, else twice (widening multiply). Clusters without that figure add nothing.
    """
    names = {a: name for name, core in cores.items() for a in core["aliases"].split("|") if a}
    core = row["core_type"].lower().partition(",")[0].replace(" + ", "+")
    row["core_type"] = core = names.get(core, core).replace(" ", "-")
    if not row["clusters"] and core in cores and row["cores"]:
        row["clusters"], kinds["clusters"] = f"{row['cores']}x{core}", kinds["core_type"]
    clusters = [re.fullmatch(r"(\d+)x([^@]+)@?([\d.]*)", part).groups() for part in row["clusters"].split()]
    if not clusters:
        return
    # A board's own clock, where it is published, is that of its fastest cluster.
    clusters[0] = (*clusters[0][:2], row["clock_mhz"] or clusters[0][2])
    row["clusters"] = " ".join(f"{n}x{name}" + (f"@{mhz}" if mhz else "") for n, name, mhz in clusters)
    layout = {"core_type": "+".join(dict.fromkeys(name for _, name, _ in clusters)),
              "cores": str(sum(int(n) for n, _, _ in clusters)), "clock_mhz": clusters[0][2]}
    first = cores.get(clusters[0][1], {})
    sheet = {c: first.get(c, "") for c in ("isa", "simd", "dotprod")}
    sheet["l1_kib"] = "" if row["l1_kib"] else first.get("l1_kib", "")
    peaks = {}
    for column, figure in (("peak_gmacs", "macs_fp32"), ("peak_gmacs_int8", "macs_int8")):
        each = [(int(n) * float(mhz or 0), cores.get(name, {}).get(figure)) for n, name, mhz in clusters]
        peak = sum(cycles * float(macs or 0) for cycles, macs in each) / 1000
        peaks[column] = f"{peak:.6g}" if each[0][0] and each[0][1] else ""
    for cells, kind in ((layout, kinds["clusters"]), (sheet, f"common knowledge:{clusters[0][1]}"),
                        (peaks, "computed:cores x clock x multiply-accumulates a cycle")):
        for column, value in cells.items():
            if not row[column] or value and kinds[column].startswith("common"):
                kinds[column] = kind
            row[column] = value or row[column]
    for column in ("isa", "simd", "dotprod", "l1_kib"):
        if (clusters[0][1], column) in documents:
            _confirm(row, kinds, column, documents[clusters[0][1], column], clusters[0][1])


def _devices(facts: Path, overrides: Path) -> pd.DataFrame:
    """One row per board or chip; hand-kept cells win over published ones, and those over the chip's.

    What was read in a document (``document_cells.csv``) confirms or fills the cells typed from memory.
    """
    names, boards = (_pairs(overrides / f"{table}.csv") for table in ("device_aliases", "boards"))
    socs, cores = ({row[key]: row for row in read(overrides / f"{table}.csv").to_dict("records")}
                   for table, key in (("socs", "soc_group"), ("cores", "core")))
    groups, cells, out, documents = defaultdict(list), defaultdict(list), [], _read_cells(overrides)
    for cell in read(overrides / "device_cells.csv").to_dict("records"):
        cells[cell["device_id"]].append(cell)
    for source, _, frame in _tables(facts, "devices"):
        for row in frame.assign(source=source).to_dict("records"):
            groups[names.get(row["device_id"], row["device_id"])].append(row)
    for device in sorted(groups):
        spelled = {r["device_id"] for r in groups[device]} | {a for a, d in names.items() if d == device}
        row, kinds = {"device_id": device, "soc_group": boards.get(device, device)}, {}
        row["aliases"] = _aliases(spelled, device)
        for column in CELLS:
            row[column], kinds[column] = _published(column, groups[device])
            value = socs.get(row["soc_group"], {}).get(column)
            if value and not row[column]:
                row[column], kinds[column] = value, f"common knowledge:{row['soc_group']}"
        for cell in cells[device]:
            row[cell["column"]], kinds[cell["column"]] = cell["value"], f"{cell['kind']}:{cell['basis']}"
        memory = re.sub(r"-\d+$", "", row["mem_type"].upper())
        row["mem_type"] = "SRAM" if memory in ("RAM", "INTERNAL SRAM") else memory
        stated = [(s, c) for s in (device, row["soc_group"]) for c in CELLS if (s, c) in documents]
        for subject, column in dict.fromkeys(cell for cell in stated if cell[1] not in LAYOUT):
            _confirm(row, kinds, column, documents[subject, column], subject)
        _processor(row, kinds, cores, documents)
        for subject, column in dict.fromkeys(cell for cell in stated if cell[1] in LAYOUT):
            _confirm(row, kinds, column, documents[subject, column], subject)
        out.append(row | {"provenance": _join(kinds | {"device_name": "", "note": ""}, row)})
    return pd.DataFrame(out, columns=["device_id", "aliases", "soc_group", *CELLS, "provenance"])


def _tasks(facts: Path, overrides: Path) -> pd.DataFrame:
    """One row per task type and data set; ``parent`` names the images, for splits that must not share any."""
    hand = {row["dataset"]: row for row in read(overrides / "datasets.csv").to_dict("records")}
    alias = {a: d for d, cells in hand.items() for a in cells["aliases"].split("|") if a}
    described = [r for _, t, f in _tables(facts, "datasets*") for r in f.assign(table=t).to_dict("records")]
    spelled, metrics, out = defaultdict(set), defaultdict(set), []
    for _, table, frame in _tables(facts, "[!d]*"):  # every table but devices and datasets
        frame = frame.rename(columns={"target_dataset": "dataset", "task_datasets": "dataset"})
        if "dataset" in frame and table != "models_more":
            frame = frame.assign(metric=frame["metric"] if "accuracies" in table else "").reindex(
                columns=["task_type", "dataset", "metric"], fill_value="image_classification")  # of transfer
            for task_type, sets, metric in frame.drop_duplicates().itertuples(index=False, name=None):
                for name in sets.split("|") if sets == sets.lower() else ():
                    spelled[task_type, alias.get(name, name)].add(f"{task_type}/{name}")
                    metrics[task_type, alias.get(name, name)].add(metric)
    for (task_type, name), used in sorted(metrics.items()):
        cells, kinds = hand.get(f"{task_type}/{name}") or hand.get(name, {}), {}
        row = {"task": f"{task_type}/{name or 'unstated'}", "task_type": task_type, "dataset": name,
               "parent": cells.get("parent") or name or f"unstated_{task_type}",
               "description": cells.get("description", ""),
               "metric": next((m for m in METRICS if m in used), _mode(used))}
        row["aliases"] = _aliases(spelled[task_type, name], row["task"])
        for column in ("n_classes", "class_names", "domain"):
            stated = [r for r in described if alias.get(r["slug"], r["slug"]) == name and r[column]]
            row[column] = cells.get(column) or (stated[0][column] if stated else "")
            known = cells.get(column) or not stated
            kinds[column] = "common knowledge:data set" if known else f"published:{stated[0]['table']}"
        out.append(row | {"provenance": _join(kinds, row)})
    return pd.DataFrame(out, columns="task task_type dataset aliases parent n_classes class_names description "
                                     "metric domain provenance".split())


def build(facts: Path = paths.FACTS, overrides: Path = OVERRIDES) -> Registries:
    """Every registry, from the facts and the hand-kept tables. Raises ValueError for an ambiguous alias."""
    models, shapes = _models(facts, overrides)
    registries = Registries(models, _devices(facts, overrides), _tasks(facts, overrides), shapes)
    for table, key in zip(registries, ("model_id", "device_id", "task")):
        lookup(table, key)
    return registries


def write(folder: Path = paths.REGISTRY) -> None:
    """Build every registry and write it."""
    for name, table in build()._asdict().items():
        table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        print(f"{name}.csv: {len(table)} rows")
