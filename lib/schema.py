"""Schemas of every table of ``data/`` (pandera), built from the data dictionary, and the reader of tables.

``data/columns.csv`` is the dictionary: which table has which column, of what type, under what rule, and its
meaning. A cell that a source does not state is empty in the file and NaN in the table.
"""
from __future__ import annotations

import csv
import difflib
from pathlib import Path
from typing import Callable, Iterable

import numpy as np
import pandas as pd
import pandera.pandas as pa

from lib import paths

#: Columns that identify a row; where a table is not named, no two rows may be equal throughout.
KEYS: dict[str, str] = {
    "devices": "device_id",
    "model_traits/model_id_map": "timm_architecture",
    "transfer/datasets": "slug",
    "transfer/datasets_more": "slug",
    "transfer/transferability_scores": "dataset model_id metric",
    "transfer/model_spider_weighted_tau": "method dataset",
    "transfer/weighted_tau_reproduction": "method dataset",
    "registry/models": "model_id",
    "registry/model_shapes": "model_id input_shape",
    "registry/devices": "device_id",
    "registry/tasks": "task",
    "registry/sources": "source",
}


class DataError(ValueError):
    """A table breaks its schema; the message is one line."""


def _text(kind: str, rule: str) -> tuple[Callable[[pd.Series], pd.Series], str]:
    if kind == "word":
        return lambda cells: cells.isin(rule.split(", ")), f"must be one of {rule}"

    def matches(cells: pd.Series) -> pd.Series:
        codes, distinct = pd.factorize(cells)  # cells repeat: match each distinct text once
        hit = pd.Series(distinct, dtype=str).str.fullmatch(rule).to_numpy(bool)
        return pd.Series(hit[codes], cells.index)

    return matches, f"must match {rule}"


def _number(kind: str, rule: str) -> tuple[Callable[[pd.Series], pd.Series], str]:
    bounds = [(sign, float(limit)) for sign, limit in (part.split() for part in rule.split(", ") if part)]

    def inside(cells: pd.Series) -> pd.Series:
        holds = cells.abs() < np.inf
        for sign, limit in bounds:
            holds &= {">": cells.gt, ">=": cells.ge, "<=": cells.le}[sign](limit)
        return holds & cells.mod(1).eq(0) if kind == "count" else holds

    noun = "whole" if kind == "count" else "finite"
    return inside, f"must be a {noun} number" + (f" and {rule}" if rule else "")


def _column(kind: str, rule: str, required: str, description: str) -> pa.Column:
    numeric = kind in ("number", "count")
    holds, message = _number(kind, rule) if numeric else _text(kind, rule)
    checks = [] if kind == "text" else [pa.Check(holds, error=message)]
    return pa.Column(float if numeric else str, checks, nullable=not required, description=description)


def _row_check(names: list[str], rule: str, holds: Callable[[pd.DataFrame], pd.Series]) -> pa.Check:
    """Rule over several columns; it holds where one of them is empty or absent."""

    def check(frame: pd.DataFrame) -> pd.Series:
        if not set(names) <= set(frame.columns):
            return pd.Series(True, frame.index)
        return frame[names].isna().any(axis=1) | holds(frame)

    return pa.Check(check, error=f"{names[0]}|{rule}")


def _unique(names: list[str], rule: str) -> pa.Check:
    return pa.Check(lambda f: ~f.duplicated([n for n in names if n in f]), error=f"{names[0]}|{rule}")


_RANGE = _row_check(
    ["latency_ms", "latency_min_ms", "latency_max_ms"], "must lie between latency_min_ms and latency_max_ms",
    lambda f: f["latency_ms"].between(f["latency_min_ms"], f["latency_max_ms"]))
_LIMITS = {"%": 100, "fraction": 1}
_UNIT = _row_check(
    ["value", "unit"], "must lie between 0 and 100 % (0 and 1 as a fraction)",
    lambda f: ~f["unit"].isin(_LIMITS) | f["value"].between(0, f["unit"].map(_LIMITS)))
_ROW_CHECKS = {"measurements": [_RANGE], "accuracies": [_UNIT], "transfer/accuracies": [_UNIT]}


def _schemas(dictionary: Path) -> dict[str, pa.DataFrameSchema]:
    columns: dict[str, dict[str, pa.Column]] = {}
    for row in pd.read_csv(dictionary, dtype=str, keep_default_na=False).itertuples():
        for table in row.tables.split():
            column = _column(row.type, row.rule, row.required, row.description)
            columns.setdefault(table, {})[row.column] = column
    schemas = {}
    for table, fields in columns.items():
        key = KEYS.get(table, "").split()
        same = "the row repeats an earlier one" + (f" (same {', '.join(key)})" if key else "")
        checks = [*_ROW_CHECKS.get(table, []), _unique(key or list(fields), same)]
        schemas[f"{table}.csv"] = pa.DataFrameSchema(fields, checks=checks, name=table, strict=True)
    schemas["transfer/accuracies_more.csv"] = schemas["transfer/accuracies.csv"]
    return schemas


#: Schema of each table, by folder/file where a folder has its own layout, else by file name.
SCHEMAS = _schemas(paths.DATA / "columns.csv")
MEASUREMENTS, ACCURACIES, MODELS, DEVICES = (
    SCHEMAS[f"{table}.csv"] for table in ("measurements", "accuracies", "models", "devices"))
TRANSFER, TASKS, SOURCES = (
    SCHEMAS[f"{table}.csv"] for table in ("transfer/accuracies", "registry/tasks", "registry/sources"))


def schema_of(path: Path) -> pa.DataFrameSchema | None:
    """Schema of a table of ``data/`` by its place, None for other files."""
    return SCHEMAS.get(f"{path.parent.name}/{path.name}") or SCHEMAS.get(path.name)


def read_table(path: str | Path, schema: pa.DataFrameSchema, validate: bool = True,
               required: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a CSV file with the column types of ``schema``.

    Parameters
    ----------
    validate
        False skips every check of the content (shipped tables are guarded by their checksums).
    required
        Columns that must be there; default all of the schema. The others may be absent.

    Raises
    ------
    DataError
        One line, ``file:line: column 'x': value 'y' is not allowed: rule``, naming the first violation.
    """
    path = Path(path)
    try:
        columns = _header(path, schema, schema.columns if required is None else required)
        lines = _lines(path, len(columns)) if validate else []
        frame = _parse(path, {c: schema.columns[c].dtype for c in columns}, lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not validate:
        return frame
    try:
        return schema.select_columns(columns).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise _first(path, error.failure_cases, frame, lines) from None


def _header(path: Path, schema: pa.DataFrameSchema, required: Iterable[str]) -> list[str]:
    with path.open("rb") as file:
        first = file.readline(1 << 16)  # a file of noise need not have lines
    try:
        columns = next(csv.reader([first.decode("utf-8-sig")], strict=True), [])
        if b"\0" in first or len(first) == 1 << 16:
            raise csv.Error("noise")
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path}:1: this is not a CSV table in UTF-8") from None
    if not columns:
        raise DataError(f"{path}: the file is empty or begins with an empty line; column names are needed")
    for column in columns:
        if column not in schema.columns:
            close = difflib.get_close_matches(column[:60], schema.columns, 1)
            hint = f"did you mean '{close[0]}'?" if close else "columns.csv lists those it has"
            raise DataError(f"{path}:1: column {column[:40]!r} is unknown in {schema.name}: {hint}")
    missing = [c for c in required if c not in columns]
    if missing or len(set(columns)) < len(columns):
        problem = f"'{missing[0]}' is missing" if missing else "names must differ, one is given twice"
        raise DataError(f"{path}:1: column {problem}")
    return columns


def _lines(path: Path, width: int) -> list[int]:
    """Line of the file at which each row begins; stops at the first row that is not ``width`` cells wide."""
    lines: list[int] = []
    line = 2
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            next(reader)
            for row in reader:
                if row:
                    lines.append(line)
                    if len(row) != width:
                        raise DataError(f"{path}:{line}: the row has {len(row)} cells, the header {width}")
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{line}: this is not CSV: {error}") from None
        except UnicodeDecodeError:
            raise DataError(f"{path}: line {line} or one soon after it is not UTF-8 text") from None
    return lines


def _parse(path: Path, types: dict[str, object], lines: list[int]) -> pd.DataFrame:
    """Typed columns; the first cell that is no number is reported with its line (``lines`` may be empty)."""
    numbers = [c for c, t in types.items() if not str(t).startswith("str")]
    options = {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"}
    try:
        return pd.read_csv(path, dtype={c: float if c in numbers else str for c in types}, **options)
    except (ValueError, TypeError) as error:
        if not lines:
            raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    raw = pd.read_csv(path, dtype=str, **options)
    cases = []
    for column in numbers:
        bad = raw[column].notna() & pd.to_numeric(raw[column], errors="coerce").isna()
        cases += [(column, "must be a number", row) for row in raw.index[bad]]
    raise _first(path, pd.DataFrame(cases, columns=["column", "check", "index"]), raw, lines)


def _first(path: Path, cases: pd.DataFrame, frame: pd.DataFrame, lines: list[int]) -> DataError:
    """The failure that comes first in the file, as an error."""
    # pandera reports a rule over several columns once for each of them; the rule names one: 'column|rule'.
    named = cases["check"].astype(str).str.partition("|")
    several = named[2].ne("")
    order = {c: i for i, c in enumerate(frame.columns)}
    cases = pd.DataFrame({
        "index": cases["index"].astype(int), "several": several,
        "column": cases["column"].where(~several, named[0]),
        "rule": named[2].where(several, named[0])}).drop_duplicates()
    cases["order"] = cases["column"].map(order)
    first = cases.sort_values(["index", "several", "order"], kind="stable").iloc[0]
    value = frame[first["column"]].iloc[first["index"]]
    shown = "" if pd.isna(value) else f"{value:.15g}" if isinstance(value, float) else str(value)
    rule = "must not be empty" if first["rule"] == "not_nullable" or shown == "" else first["rule"]
    more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
    return DataError(f"{path}:{lines[first['index']]}: column '{first['column']}': value "
                     f"{shown[:60]!r} is not allowed: {rule}{more}")
