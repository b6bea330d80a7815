"""Tables of the Hailo Model Zoo: ``docs/public_models/<DEVICE>/<DEVICE>_<task>.rst``, one a data set."""
from __future__ import annotations

import re
from pathlib import PurePath

from lib.schema import DataError
from lib.sources import Reading, Rows, identify, slug

TASKS = {"classification": "image_classification", "zero_shot_classification": "image_classification",
         "automatic_speech_recognition": "speech_recognition"} | {task: task for task in (
             "object_detection", "instance_segmentation", "semantic_segmentation", "depth_estimation",
             "face_detection", "face_recognition", "pose_estimation", "super_resolution")}
#: Word of the header -> metric and unit; what "mAP" means depends on the task.
METRICS = {"top1": ("top1", "%"), "map": ("map50_95", "%"), "miou": ("miou", "%"), "psnr": ("psnr", "dB")}
MAP = {"face_detection": "map", "instance_segmentation": "mask_map50_95", "pose_estimation": "keypoint_ap"}
#: Start of a column's name -> cell; links and counts of the model are no measurements.
COLUMNS = {"network name": "name", "fps (batch size=1)": "1", "fps (batch size=8)": "8", "quantized": "int8",
           "hardware": "int8", "input resolution": "input_shape", "params (m)": "", "ops (g)": "",
           "links": "", "pretrained": "", "source": "", "compiled": ""}


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
    task, dataset, header, row, start, previous = TASKS.get(named[2], "other"), "", None, [], 0, ""
    for line, content in enumerate([*text.splitlines(), "end"], 1):
        cell = re.fullmatch(r"\s+(\* )?-(?: (.*))?", content)
        if re.fullmatch(r"\^{3,}", content):
            dataset = slug(previous)
        closes = content[:1].strip() or cell and cell[1]
        if header is not None and row and closes:
            if not header:
                header = [_column(rows, start, name) for name in row]
                if header[0] != "name":
                    raise rows.error(start, "the first column must be 'Network Name'")
            elif len(row) != len(header):
                raise rows.error(start, f"the row has {len(row)} cells, the header {len(header)}: cut text")
            else:
                _row(rows, start, dict(zip(header, row)), device, task_type=task, dataset=dataset)
            row = []
        if content[:1].strip():
            header = [] if content.startswith(".. list-table::") else None
        elif header is not None and cell:
            start = line if cell[1] else start
            row.append((cell[2] or "").strip())
        previous = content
    return rows.reading()


def _row(rows: Rows, line: int, cells: dict, device: dict[str, str], **task: str) -> None:
    name = re.sub(r"\s*\|\w+\|", "", cells["name"]).strip()
    model = {**identify("hailo", name), **task, "input_shape": cells.get("input_shape", "").lower(),
             "source_ref": f"{rows.file} # {task['dataset']}"}
    for batch in ("1", "8"):
        if rate := rows.number(line, cells.get(batch, ""), f"FPS at batch {batch}"):
            rows.add(line, **model, **device, precision="int8", precision_name="HEF (quantized)",
                     batch_size=int(batch), throughput_ips=rate,
                     note="streaming (pipelined) throughput, not an inverse latency")
    column = next((c for c in cells if isinstance(c, tuple)), ("unstated", ""))
    metric = MAP.get(task["task_type"], column[0]) if column[0] == "map50_95" else column[0]
    for cell, precision, name, where in (
            (column, "fp32", "float", ""), ("int8", "int8", "Hardware", device["device_id"])):
        value = rows.number(line, cells.get(cell, ""), "accuracy")
        if value is not None:
            rows.add(line, **model, precision=precision, precision_name=name, metric=metric, value=value,
                     unit=column[1], device_id=where, training="pretrained")


def _column(rows: Rows, line: int, name: str) -> str | tuple[str, str]:
    plain = name.lower()
    if accuracy := re.fullmatch(r"(?:float|accuracy)\s*\(?(.*?)\)?", plain):
        return METRICS.get(slug(accuracy[1]), (slug(accuracy[1]) or "unstated", ""))
    found = next((cell for start, cell in COLUMNS.items() if plain.startswith(start)), None)
    if found is None:
        raise rows.error(line, f"column {name[:40]!r} is unknown")
    return found
