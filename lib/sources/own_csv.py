"""A table of one's own: ``model_id,input_shape,precision,latency_ms`` and what else was measured."""
from __future__ import annotations

from typing import Mapping

import pandera.pandas as pa

from lib.schema import ACCURACIES, MEASUREMENTS, DataError, read_table
from lib.sources import Reading, Rows, read_text

REQUIRED = ("model_id", "input_shape", "precision", "latency_ms")
#: Column -> column of the measurements; times in ms, memory in KiB, energy in microjoule, accuracy in %.
COLUMNS = {c: c for c in (*REQUIRED, "energy_uj", "threads", "task_type", "dataset", "processor", "runtime",
                          "power_mode", "note")} | {"memory_kib": "ram_kib", "storage_kib": "flash_kib"}
RULES = {c: MEASUREMENTS.columns[name] for c, name in COLUMNS.items()} | {"accuracy": ACCURACIES.columns["value"]}
TABLE = pa.DataFrameSchema(RULES, name="a table of measurements", strict=True).update_columns(
    {c: {"nullable": c not in REQUIRED} for c in RULES})


def read(file: str, task_types: Mapping[str, str], processor: str = "cpu", source: str = "own", **device: object) -> Reading:
    """Rows of the table; ``accuracy`` is the share of right answers on the row's ``dataset``.

    ``task_types`` (of each model) and ``processor`` stand in where a row gives none; ``device``: cells such as ``device_id``.
    """
    if not read_text(file).endswith("\n"):
        raise DataError(f"{file}: the last line has no line break: the text may be cut")
    table, rows, scored = read_table(file, TABLE, required=REQUIRED), Rows(source, file), set()
    if table.empty:
        raise DataError(f"{file}: no row follows the names of the columns")
    for line, row in enumerate(table.astype(object).where(table.notna(), None).to_dict("records"), 2):
        model, accuracy = row["model_id"], row.pop("accuracy", None)
        cells = {"task_type": task_types.get(model, "other"), "processor": processor}
        cells |= {COLUMNS[c]: value for c, value in row.items() if value is not None}
        cells |= {"model_name": model, "precision_name": row["precision"], **device}
        rows.add(line, **cells, latency_stat="unspecified")
        if accuracy is not None:
            if "dataset" not in cells:
                raise rows.error(line, "column 'accuracy' needs the 'dataset' that it was measured on")
            score = (accuracy, *(cells.get(c) for c in ACCURACIES.columns))
            if score not in scored:  # it may stand beside each of a model's settings
                rows.add(line, **cells, metric="top1", value=accuracy, unit="%")
            scored.add(score)
    return rows.reading()
