"""README tables of the STM32 AI model zoo: footprints and times, joined by the file they link; accuracies."""
from __future__ import annotations

import re
from typing import Iterator

from lib.sources import WORDS, Reading, Rows, Table, identify, slug

WORDS = WORDS["stm32"]
_HEADING = re.compile(r"footprint|inference time|\b(?:Accuracy|AP|OKS|IoU)\b.*\b(?:with|on)\s+(.+?)(?:\s+dataset.*)?$")


def read(text: str, file: str, date: str = "") -> Reading:
    """Rows of every table under a heading on memory footprint, inference time or accuracy."""
    rows, footprints, timed = Rows("stm32", file), {}, []
    for heading, table in _tables(text):
        kind = _HEADING.search(heading)
        if not kind:
            continue
        timing = ["device_name", "engine", "latency_ms"] if kind[0] == "inference time" else []
        for line, cells in rows.records(table, WORDS["columns"], ["model", "precision_name", "input_shape", *timing]):
            link = re.fullmatch(r"\[(.+?)\]\((.+?)\).*", cells["model"]) or [cells["model"]] * 3
            dataset = slug(cells.get("dataset") or kind[1] or "")
            cells |= {**identify("stm32", link[1].strip()), "dataset": WORDS["datasets"].get(dataset, dataset),
                      "input_shape": cells["input_shape"].lower(), "source_ref": f"{file} # {heading}"}
            if kind[0] == "footprint":
                footprints[link[2], cells.get("series", "")[-2:]] = cells
            elif timing:
                series = re.search(r"(?:STM32|-)([A-Z]\d)", cells["device_name"])
                timed.append((line, (link[2], series and series[1]), cells))
            else:
                training = WORDS["trainings"].get(cells["model_name"].split()[-1], "pretrained")
                for metric in cells.keys() & set(WORDS["metrics"]):
                    rows.add(line, **cells, metric=metric, value=cells[metric], unit="%", training=training)
    for line, key, cells in timed:
        cells = footprints.get(key, {}) | cells
        rows.add(line, **cells | _run(cells), date=date, latency_stat="unspecified")
    return rows.reading()


def _tables(text: str) -> Iterator[tuple[str, Table]]:
    """Every table in Markdown with its heading; a cell that is not closed is left out of its row."""
    heading, table = "", []
    for line, content in enumerate([*text.splitlines(), ""], 1):
        if content.lstrip().startswith("|"):
            if not re.fullmatch(r"[\s|:-]+", content):
                table.append((line, [cell.strip() for cell in content.split("|")[1:-1]]))
        elif table:
            yield heading, table
            table = []
        if content.startswith("#"):
            heading = content.strip("# ").replace("*", "")


def _run(cells: dict[str, str]) -> dict[str, object]:
    """What a row of times says of the run. Boards with X-LINUX-AI run Linux."""
    engine, board, linux = cells["engine"], cells["device_name"], cells.get("X-LINUX-AI", "")
    tool = "STEdgeAI Core" if cells.get("STEdgeAI Core") else "STM32Cube.AI"
    runtime, version = tool.split()[0].lower().replace(".", ""), f"{tool} {cells.get(tool)}"
    if linux:
        word = cells["framework"].lower().partition(" ")[0]
        runtime = WORDS["frameworks"].get(word, word)
        version = f"{cells['framework']}, X-LINUX-AI {linux}"
    units, cores = {u for u in ("NPU", "GPU", "HSP") if u in engine}, re.match(r"(\d+) CPU", engine)
    quantization = cells.get("quantization", "").strip("* ")
    return {"device_id": slug(re.sub(r"\(.*\)", "", board)), "runtime": runtime, "runtime_version": version,
            "threads": cores and cores[1],
            "processor": "mixed" if units - {"NPU"} else "npu" if units else "cpu" if linux else "mcu",
            "note": f"engine {engine}" + f"; quantization {quantization}" * bool(quantization)}
