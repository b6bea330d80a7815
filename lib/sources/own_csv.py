"""A table of one's own: ``model_id,input_shape,precision,latency_ms`` and what else was measured."""
from __future__ import annotations

from typing import Mapping

import pandera.pandas as pa

from lib.schema import ACCURACIES, MEASUREMENTS, DataError, read_table
from lib.sources import Reading, check, read_text

REQUIRED = ("model_id", "input_shape", "precision", "latency_ms")
#: Column -> column of the measurements; times in ms, memory in KiB, energy in microjoule, accuracy in %.
COLUMNS = {c: c for c in (*REQUIRED, "energy_uj", "threads", "task_type", "dataset", "processor", "runtime",
                          "power_mode", "note")} | {"memory_kib": "ram_kib", "storage_kib": "flash_kib"}
_SETTINGS = [c for c in COLUMNS if not c.endswith(("_ms", "_kib", "_uj", "note"))]
_OPTIONAL = {c: {"nullable": c not in REQUIRED} for c in COLUMNS}
TABLE = pa.DataFrameSchema(
    {name: MEASUREMENTS.columns[c] for name, c in COLUMNS.items()}
    | {"accuracy": ACCURACIES.columns["value"]},
    checks=[pa.Check(lambda f: ~f.duplicated([c for c in _SETTINGS if c in f]),
                     error="model_id|repeats an earlier row with the same settings"),
            pa.Check(lambda f: f.reindex(columns=["accuracy"])["accuracy"].isna()
                     | f.reindex(columns=["dataset"])["dataset"].notna(),
                     error="accuracy|needs the 'dataset' that it was measured on")],
    name="a table of measurements", strict=True).update_columns(_OPTIONAL | {"accuracy": {"nullable": True}})


def read(file: str, task_types: Mapping[str, str] | None = None, processor: str = "cpu", source: str = "own",
         **device: object) -> Reading:
    """Rows of the table; ``accuracy`` is the share of right answers on the row's ``dataset``.

    ``task_types`` (of each model) and ``processor`` stand in where a row gives none; ``device``: cells such
    as ``device_id``.
    """
    if not read_text(file).endswith("\n"):
        raise DataError(f"{file}: the last line has no line break: the text may be cut")
    table = read_table(file, TABLE, required=REQUIRED)
    if table.empty:
        raise DataError(f"{file}: no row follows the names of the columns")
    table = table.reindex(columns=list(TABLE.columns)).astype(object).rename(columns=COLUMNS).assign(
        source=source, source_ref=str(file).rpartition("/")[2], model_name=table["model_id"],
        precision_name=table["precision"], **device)
    table["processor"] = table["processor"].fillna(processor)
    usual = table["model_id"].map(dict(task_types or {}))
    table["task_type"] = table["task_type"].fillna(usual).fillna("other")
    scored = table["accuracy"].notna()
    frames = []
    for rows, rules in ((table.assign(latency_stat="unspecified"), MEASUREMENTS),
                        (table[scored].assign(metric="top1", value=table["accuracy"], unit="%"), ACCURACIES)):
        types = {c: str(rule.dtype) for c, rule in rules.columns.items()}
        # The same accuracy may stand beside each of a model's settings: it counts once.
        rows = rows.reindex(columns=list(types)).astype(types).drop_duplicates(ignore_index=True)
        frames.append(check(rows, rules, str(file), list(range(2, len(table) + 2))))
    return Reading(*frames)
