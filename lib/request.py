"""What a user asks for: a task, a board, candidates. Read, checked, and refused with one line that says what is wrong."""
from __future__ import annotations

import difflib
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple

import numpy as np
import pandas as pd

from lib import registry
from lib.benchmark import TRAITS, VARIANT, Benchmark, with_traits

PTM = VARIANT + ["pretrain_dataset", "training"]
YOURS = "you"


class Task(NamedTuple):
    """What the models shall do; ``name`` is empty for a task that the registry does not know."""

    name: str
    task_type: str
    prototypes: Mapping[str, np.ndarray]


class Board(NamedTuple):
    """Where they shall run; ``device_id`` is empty for a board that the registry does not know."""

    device_id: str
    name: str
    fields: Mapping[str, object]


def stated(value: object) -> bool:
    """Is a cell filled?"""
    return not (value is None or value == "" or (isinstance(value, float) and np.isnan(value)))


def choose(value: str, allowed: Iterable[str], what: str) -> str:
    """The value if it is allowed, else a ValueError that names near ones."""
    allowed = list(allowed)
    if value in allowed:
        return value
    near = difflib.get_close_matches(value[:80], allowed, 3, 0.5)
    listed = ", ".join(allowed[:12]) + (" ..." if len(allowed) > 12 else "")
    raise ValueError(f"{what} '{value[:80]}' is unknown: " + (f"did you mean {' or '.join(near)}?" if near else f"allowed: {listed}"))


def _names(table: pd.DataFrame, key: str) -> dict[str, str]:
    return registry.lookup(table.astype(object).fillna("").astype(str), key)


def _is_yaml(text: str) -> bool:
    return text.lower().endswith((".yaml", ".yml"))


def read_task(text: str, benchmark: Benchmark) -> Task:
    """A task of the registry by name or alias, or a YAML file with ``task_type`` and ``classes`` and / or ``images``."""
    if not _is_yaml(text):
        names = _names(benchmark.tasks, "task")
        name = names[choose(text, names, "task")]
        return Task(name, name.partition("/")[0], benchmark.tokens.get(name))
    from lib.prototypes import from_images, from_names
    from lib.sources import LINE, Rows, read_text

    fields = Rows("own", text).yaml(read_text(text))
    fields.pop(LINE)
    for field in fields:
        choose(str(field), ("task_type", "classes", "images"), f"{text}: field")
    for field, kind, wanted in (("task_type", str, "a word"), ("classes", list, "a list of names"), ("images", str, "a folder")):
        if not isinstance(fields.get(field, kind()), kind):
            raise ValueError(f"{text}: '{field}' must be {wanted}, not {str(fields[field])[:40]!r}")
    if "task_type" not in fields or not {"classes", "images"} & set(fields):
        raise ValueError(f"{text}: 'task_type' and 'classes' (or 'images') are needed")
    classes = fields.get("classes", [])
    if any(isinstance(c, bool) or not isinstance(c, (str, int)) for c in classes):
        raise ValueError(f"{text}: 'classes' must be a list of names (put yes, no, on, off in quotes)")
    task_type, prototypes = choose(fields["task_type"], sorted(set(benchmark.tasks["task_type"])), f"{text}: task_type"), {}
    try:
        if "images" in fields:
            prototypes["images"] = from_images(Path(text).parent / fields["images"]).vectors
        if "classes" in fields:
            prototypes["names"] = from_names(list(map(str, classes)), task_type, tokens=benchmark.tokens)
    except ImportError as error:
        raise ValueError(f"{text}: images need the package {error.name}: pip install -r requirements.txt") from None
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    return Task("", task_type, prototypes)


def read_device(text: str, benchmark: Benchmark) -> Board:
    """A device of the registry by name or alias, or a YAML file with any of the columns of ``devices.csv``."""
    if not _is_yaml(text):
        names = _names(benchmark.devices, "device_id")
        name = names[choose(text, names, "device")]
        return Board(name, name, benchmark.devices.set_index("device_id").loc[name].to_dict())
    from lib.sources.own_board import read_board

    fields = dict(read_board(text, named=False))
    if not set(fields) - {"device_id", "device_name", "vendor", "note", "os"}:
        raise ValueError(f"{text}: nothing is said of the hardware (e.g. core_type, clock_mhz, ram_mib)")
    if "cortex-m" in str(fields.get("core_type", "")).lower():  # what every such chip is
        fields = {"device_class": "mcu", "cores": 1.0} | fields
    return Board("", str(fields.get("device_id") or fields.get("device_name") or Path(text).stem), fields)


def read_candidates(path: str, pool: pd.DataFrame, benchmark: Benchmark, precision: str) -> pd.DataFrame:
    """Rows of a CSV with columns of ``models.csv``; traits that it does not give are filled in where known.

    A row that only names candidates of the pool stands for all that it fits; other rows are new candidates, without a
    known accuracy unless a column ``accuracy`` (in %) gives it. ``precision`` stands in where a row gives none.
    """
    import pandera.pandas as pa

    from lib import schema

    words = ("model_id", "family", "architecture", "input_shape", "precision", "pretrain_dataset", "training")
    numbers = ("params_m", "macs_m", "macts_m", "size_mib", "year")
    columns = {c: pa.Column(str, nullable=True) for c in words}
    columns |= {c: pa.Column(float, pa.Check.gt(0, error="must be above 0"), nullable=True) for c in numbers}
    columns["accuracy"] = pa.Column(float, pa.Check.in_range(0, 100, error="must be from 0 to 100 %"), nullable=True)
    columns["precision"] = pa.Column(str, schema.MEASUREMENTS.columns["precision"].checks, nullable=True)
    rows = schema.read_table(path, pa.DataFrameSchema(columns, name="candidates"), required=())
    if rows.empty or not {"model_id", "params_m", "macs_m"} & set(rows):
        raise ValueError(f"{path}: {'a row' if rows.empty else 'one of the columns model_id, params_m, macs_m'} is needed")
    rows = rows.reindex(columns=list(columns)).astype(object)
    names, out = _names(benchmark.models, "model_id"), []
    for line, row in enumerate(rows.where(rows.notna(), None).to_dict("records"), 2):
        named = row["model_id"]
        if named not in names and not row["params_m"] and not row["macs_m"]:
            choose(str(named or ""), names, f"{path}:{line}: params_m and macs_m are empty, and model_id")
        row["model_id"] = names.get(named, named or f"candidate_{line - 1}")
        row["input_shape"] = registry.canonical_shape(row["input_shape"]) or None
        same = pool["model_id"] == row["model_id"]
        for c in PTM[1:]:
            same &= (pool[c] == row[c]) if row[c] else True
        yours = {"line": line, "accuracy_source": YOURS, "accuracy_metric": ""}
        if same.any() and not any(row[c] for c in numbers):
            given = {"line": line} if row["accuracy"] is None else yours | {"accuracy": row["accuracy"]}
            out += pool[same].assign(**given).to_dict("records")
            continue
        base = benchmark.models[benchmark.models["model_id"] == row["model_id"]]
        row["input_shape"] = row["input_shape"] or next(iter(base["input_shape"]), None)
        known = with_traits(benchmark, pd.DataFrame([row])[VARIANT]).iloc[0] if len(base) else {}
        out.append(row | {c: known.get(c) if row[c] is None else row[c] for c in TRAITS} | {"precision": row["precision"] or precision} | yours)
    found = pd.DataFrame(out)
    twice = found[found.duplicated(PTM)]
    if len(twice):
        raise ValueError(f"{path}:{twice['line'].iloc[0]}: candidate {twice['model_id'].iloc[0]} is given twice")
    return found.astype({c: float for c in ("accuracy", *numbers)})
