"""README tables of the STM32 AI model zoo: footprints and times, joined by the file they link; accuracies."""
from __future__ import annotations

import re

from lib.sources import Reading, Rows, identify, slug

#: Start of a column's name -> cell; the first that fits.
COLUMNS = {
    "model": "model", "dataset": "dataset", "format": "format", "resolution": "input_shape",
    "series": "series", "internal ram": "ram_internal_kib", "external ram": "ram_external_kib",
    "runtime ram": "ram_runtime_kib", "activation ram": "ram_activation_kib", "total ram": "ram_kib",
    "weights flash": "flash_weights_kib", "code flash": "flash_code_kib", "total flash": "flash_kib",
    "board": "device_name", "input shape": "input_shape",
    "stm32cube.ai": "STM32Cube.AI", "stedgeai core": "STEdgeAI Core", "x-linux-ai": "X-LINUX-AI",
    "framework": "framework", "execution engine": "engine", "frequency": "clock_mhz",
    "inference time": "latency_ms", "inf / sec": "throughput_ips", "quantization": "quantization",
    "%npu": "", "%gpu": "", "%cpu": ""}
METRICS = {"top 1 accuracy": "top1", "clip-level accuracy": "clip_accuracy", "accuracy": "accuracy",
           "ap": "map50", "oks": "oks", "average iou": "miou", "miou": "miou"}
UNITS = {"latency_ms": "ms", "clock_mhz": "MHz", "throughput_ips": ""}
DATASETS = {"tf_flowers": "flowers", "food_101": "food101", "person": "coco_person",
            "coco_2017_person": "coco_person", "plant_leaf_diseases": "plant_village"}
TRAININGS = {"tfs": "scratch", "tl": "linear_probe", "fft": "finetuned"}
_HEADING = re.compile(
    r"footprint|inference time|\b(?:Accuracy|AP|OKS|IoU)\b.*\b(?:with|on)\s+(.+?)(?:\s+dataset.*)?$")


def read(text: str, file: str, date: str = "") -> Reading:
    """Rows of every table under a heading on memory footprint, inference time or accuracy."""
    rows, heading, header, footprints, timed = Rows("stm32", file), "", [], {}, []
    for line, content in enumerate(text.splitlines(), 1):
        if content.startswith("#"):
            heading, header = content.strip("# ").replace("*", ""), []
        kind = _HEADING.search(heading)
        if not kind or not content.lstrip().startswith("|"):
            continue
        values = [v.strip() for v in content.strip()[1:-1].split("|")]
        if not content.rstrip().endswith("|") or header and len(values) != len(header):
            raise rows.error(line, f"the row is cut: it has {len(values)} cells, the header {len(header)}")
        if not header:
            header = [_column(rows, line, name, kind[1] is not None) for name in values]
            needed = ["model", "format", "input_shape"]
            needed += ["device_name", "engine", "latency_ms"] * (kind[0] == "inference time")
            if missing := [column for column in needed if column not in header]:
                raise rows.error(line, f"no column for '{missing[0]}'")
        elif not re.fullmatch(r"[\s|:-]+", content):
            cells = dict(zip(header, values)) | {"line": line, "ref": f"{file} # {heading}"}
            link = re.fullmatch(r"\[(.+?)\]\((.+?)\).*", cells["model"]) or [cells["model"]] * 3
            cells |= {"name": link[1].strip(), "link": link[2], "dataset": cells.get("dataset", kind[1])}
            if kind[0] == "footprint":
                footprints[link[2], cells.get("series", "")[-2:]] = cells
            elif kind[0] == "inference time":
                timed.append(cells)
            else:
                for metric in {*METRICS.values()} & {*cells}:
                    rows.add(line, **_model(rows, cells), metric=metric, unit="%",
                             value=rows.number(line, cells[metric], metric, "%"),
                             training=TRAININGS.get(cells["name"].split()[-1], "pretrained"))
    for cells in timed:
        series = re.search(r"(?:STM32|-)([A-Z]\d)", cells["device_name"])
        _time(rows, footprints.get((cells["link"], series and series[1]), {}) | cells, date)
    return rows.reading()


def _column(rows: Rows, line: int, name: str, accuracy: bool) -> str:
    plain, unit = re.fullmatch(r"(.*?)\s*(?:\(([^)]*)\))?", name.lower()).groups()
    column = next((c for start, c in (COLUMNS | METRICS if accuracy else COLUMNS).items()
                   if re.match(rf"{re.escape(start)}(?!\w)", plain)), None)
    if column is None:
        raise rows.error(line, f"column {name[:40]!r} is unknown")
    expected = UNITS.get(column) or "KiB" * column.endswith("_kib")
    if expected and unit and unit != expected.lower() or column == "latency_ms" and not unit:
        raise rows.error(line, f"column {name[:40]!r}: the unit must be {expected}")
    return column


def _model(rows: Rows, cells: dict) -> dict[str, str]:
    dataset = slug(cells["dataset"])
    return {**identify("stm32", cells["name"]), "dataset": DATASETS.get(dataset, dataset),
            "input_shape": cells["input_shape"].lower(), "source_ref": cells["ref"],
            **rows.precision(cells["line"], cells["format"])}


def _time(rows: Rows, cells: dict, date: str) -> None:
    """Add a row of a table of times, joined with its footprint. Boards with X-LINUX-AI run Linux."""
    engine, board, linux = cells["engine"], cells["device_name"], cells.get("X-LINUX-AI", "")
    tool = "STEdgeAI Core" if cells.get("STEdgeAI Core") else "STM32Cube.AI"
    runtime, version = tool.split()[0].lower().replace(".", ""), f"{tool} {cells.get(tool)}"
    if linux:
        word = cells["framework"].lower().partition(" ")[0]
        runtime = {"tensorflowlite": "tflite", "onnx": "onnxruntime"}.get(word, word)
        version = f"{cells['framework']}, X-LINUX-AI {linux}"
    units, cores = {u for u in ("NPU", "GPU", "HSP") if u in engine}, re.match(r"(\d+) CPU", engine)
    notes = [f"engine {engine}", "quantization " * bool(q := cells.get("quantization", "").strip("* ")) + q]
    rows.add(cells["line"], **_model(rows, cells), device_name=board,
             device_id=slug(re.sub(r"\(.*\)", "", board)),
             processor="mixed" if units - {"NPU"} else "npu" if units else "cpu" if linux else "mcu",
             runtime=runtime, runtime_version=version, threads=float(cores[1]) if cores else None, date=date,
             latency_stat="unspecified", note="; ".join(filter(None, notes)),
             **{c: rows.number(cells["line"], v, c, UNITS.get(c, "KiB")) for c, v in cells.items()
                if c in UNITS or c.endswith("_kib")})
