"""Tables of the Hailo Model Zoo: ``docs/public_models/<DEVICE>/<DEVICE>_<task>.rst``, one a data set."""
from __future__ import annotations

import re
from pathlib import PurePath
from typing import Iterator

from lib.schema import DataError
from lib.sources import WORDS, Reading, Rows, Table, identify, slug

WORDS = WORDS["hailo"]
_ACCURACY = re.compile(r"(?:float|accuracy)\s*\(?(.*?)\)?", re.I)


def read(text: str, file: str, date: str = "") -> Reading:
    """Throughputs and accuracies of every table; a throughput of 0 means that none was measured.

    FPS is the rate of a full pipeline, so ``latency_ms`` stays empty: its inverse would not be a latency.
    """
    rows, named = Rows("hailo", file), re.fullmatch(r"HAILO(\d+[A-Z]?)_(\w+)", PurePath(file).stem)
    if not named:
        raise DataError(f"{file}: the name must be of the form HAILO8_classification.rst")
    compiler = re.search(r"Dataflow Compiler (v[\d.]+\d)", text)
    device = {"device_name": f"Hailo-{named[1]}", "device_id": f"hailo_{named[1].lower()}", "date": date,
              "processor": "npu", "runtime": "hailort", "runtime_version": compiler and f"DFC {compiler[1]}"}
    task_type = WORDS["tasks"].get(named[2], "other")
    for heading, table in _tables(text):
        words = [slug(name[1]) for name in map(_ACCURACY.fullmatch, table[0][1]) if name]
        word = (words or [""])[0] or "unstated"
        metric, unit = WORDS["metrics"].get(word, (word, ""))
        metric = WORDS["map"].get(task_type, metric) if word == "map" else metric
        for line, cells in rows.records(table, WORDS["columns"], ["name"]):
            name = re.sub(r"\s*\|\w+\|", "", cells["name"]).strip()
            model = {**identify("hailo", name), "task_type": task_type, "dataset": slug(heading),
                     "source_ref": f"{file} # {slug(heading)}",
                     "input_shape": cells.get("input_shape", "").lower()}
            for batch in ("1", "8"):
                if rows.number(line, cells.get(batch), f"FPS at batch {batch}"):
                    rows.add(line, **model, **device, precision="int8", precision_name="HEF (quantized)",
                             batch_size=batch, throughput_ips=cells[batch],
                             note="streaming (pipelined) throughput, not an inverse latency")
            model |= {"metric": metric, "unit": unit, "training": "pretrained"}
            rows.add(line, **model, value=cells.get("float"), precision="fp32", precision_name="float")
            rows.add(line, **model, value=cells.get("int8"), precision="int8", precision_name="Hardware",
                     device_id=device["device_id"])
    return rows.reading()


def _tables(text: str) -> Iterator[tuple[str, Table]]:
    """Every list-table of a text in reStructuredText, with the heading above it."""
    heading, table, previous = "", None, ""
    for line, content in enumerate([*text.splitlines(), "end"], 1):
        cell = re.fullmatch(r"\s+(\* )?-(?: (.*))?", content)
        if re.fullmatch(r"\^{3,}", content):
            heading = previous
        if table is not None and cell:
            if cell[1] or not table:
                table.append((line, []))
            table[-1][1].append((cell[2] or "").strip())
        elif content[:1].strip():  # text at the margin ends a table
            if table:
                yield heading, table
            table = [] if content.startswith(".. list-table::") else None
        previous = content
