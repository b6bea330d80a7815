"""Schemas of every table of ``data/`` (pandera), built from the data dictionary, and the reader of tables.

``data/columns.csv`` is the dictionary: which table has which column, of what type, under what rule, and its
meaning. A cell that a source does not state is empty in the file and NaN in the table.
"""
from __future__ import annotations

import csv
import difflib
from pathlib import Path
from typing import Callable, Iterable, Sequence

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
    "registry/noise": "source metric task",
}


class DataError(ValueError):
    """A table breaks its schema; the message is one line."""


def _check(kind: str, rule: str) -> pa.Check:
    """Rule of a column of words, patterns, numbers or counts."""
    if kind == "word":
        return pa.Check.isin(rule.split(", "), error=f"must be one of {rule}")

    def matches(cells: pd.Series) -> pd.Series:
        codes, distinct = pd.factorize(cells)  # cells repeat: match each distinct text once
        hit = pd.Series(distinct, dtype=str).str.fullmatch(rule).to_numpy(bool)
        return pd.Series(hit[codes], cells.index)

    def inside(cells: pd.Series) -> pd.Series:
        holds = cells.abs().lt(np.inf) & (cells.mod(1).eq(0) if kind == "count" else True)
        for sign, limit in (part.split() for part in rule.split(", ") if part):
            holds &= {">": cells.gt, ">=": cells.ge, "<=": cells.le}[sign](float(limit))
        return holds

    if kind == "pattern":
        return pa.Check(matches, error=f"must match {rule}")
    noun = "whole" if kind == "count" else "finite"
    return pa.Check(inside, error=f"must be a {noun} number" + (f" and {rule}" if rule else ""))


def _row_check(names: list[str], rule: str, holds: Callable[[pd.DataFrame], pd.Series]) -> pa.Check:
    """Rule over several columns; it holds where one of them is empty or absent."""
    return pa.Check(lambda f: f.reindex(columns=names).isna().any(axis=1) | holds(f.reindex(columns=names)),
                    error=f"{names[0]}|{rule}")


_LIMITS = {"%": 100, "fraction": 1}
_RANGE = _row_check(
    ["latency_ms", "latency_min_ms", "latency_max_ms"], "must lie between latency_min_ms and latency_max_ms",
    lambda f: f["latency_ms"].between(f["latency_min_ms"], f["latency_max_ms"]))
_UNIT = _row_check(
    ["value", "unit"], "must lie between 0 and 100 % (0 and 1 as a fraction)",
    lambda f: ~f["unit"].isin(_LIMITS) | f["value"].between(0, f["unit"].map(_LIMITS)))
_ROW_CHECKS = {"measurements": [_RANGE], "accuracies": [_UNIT], "transfer/accuracies": [_UNIT]}


def unique(names: list[str], rule: str) -> pa.Check:
    """No two rows are equal in those of the columns that are there."""

    def holds(frame: pd.DataFrame) -> pd.Series:
        there = [name for name in names if name in frame]
        return ~frame.duplicated(there) if there else pd.Series(True, frame.index)

    return pa.Check(holds, error=f"{names[0]}|{rule}")


def _schemas(dictionary: Path) -> dict[str, pa.DataFrameSchema]:
    columns: dict[str, dict[str, pa.Column]] = {}
    for row in pd.read_csv(dictionary, dtype=str, keep_default_na=False).itertuples():
        for table in row.tables.split():
            checks = [] if row.type == "text" else [_check(row.type, row.rule)]
            columns.setdefault(table, {})[row.column] = pa.Column(
                float if row.type in ("number", "count") else str, checks, nullable=not row.required,
                description=row.description)
    schemas = {}
    for table, fields in columns.items():
        key = KEYS.get(table, "").split()
        same = "the row repeats an earlier one" + (f" (same {', '.join(key)})" if key else "")
        checks = [*_ROW_CHECKS.get(table, []), unique(key or list(fields), same)]
        schemas[f"{table}.csv"] = pa.DataFrameSchema(fields, checks=checks, name=table, strict=True)
    schemas["transfer/accuracies_more.csv"] = schemas["transfer/accuracies.csv"]
    return schemas


#: Schema of each table, by folder/file where a folder has its own layout, else by file name.
SCHEMAS = _schemas(paths.DATA / "columns.csv")
MEASUREMENTS, ACCURACIES, MODELS, DEVICES = (
    SCHEMAS[f"{table}.csv"] for table in ("measurements", "accuracies", "models", "devices"))
TRANSFER, TASKS, SOURCES = (
    SCHEMAS[f"{table}.csv"] for table in ("transfer/accuracies", "registry/tasks", "registry/sources"))


def is_text(column: pa.Column) -> bool:
    """Whether a column holds text; it holds numbers else."""
    return "float" not in str(column.dtype)


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
        frame = _parse(path, {c: str if is_text(schema.columns[c]) else float for c in columns}, lines)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not validate:
        return frame
    try:
        return schema.select_columns(columns).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise first_failure(path, error.failure_cases, frame, lines) from None


def hint(word: str, known: Iterable[str], otherwise: str) -> str:
    """The known word that was probably meant, if any."""
    close = difflib.get_close_matches(word[:60], known, 1)
    return f"did you mean '{close[0]}'?" if close else otherwise


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
            near = hint(column, schema.columns, "columns.csv lists those it has")
            raise DataError(f"{path}:1: column {column[:40]!r} is unknown in {schema.name}: {near}")
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


def _parse(path: Path, types: dict[str, type], lines: list[int]) -> pd.DataFrame:
    """Typed columns; the first cell that is no number is reported with its line (``lines`` may be empty)."""
    options = {"keep_default_na": False, "na_values": [""], "encoding": "utf-8-sig"}
    try:
        return pd.read_csv(path, dtype=types, **options)
    except (ValueError, TypeError) as error:
        if not lines:
            raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    raw = pd.read_csv(path, dtype=str, **options)
    cases = [(column, "must be a number", row) for column in types if types[column] is float
             for row in raw.index[raw[column].notna() & pd.to_numeric(raw[column], errors="coerce").isna()]]
    raise first_failure(path, pd.DataFrame(cases, columns=["column", "check", "index"]), raw, lines)


def first_failure(path: str | Path, cases: pd.DataFrame, frame: pd.DataFrame,
                  lines: Sequence[int]) -> DataError:
    """The first of pandera's failure cases, as an error; ``lines``: where each row of the frame begins."""
    # pandera reports a rule over several columns once for each of them; the rule names one: 'column|rule'.
    found = {}
    for row, column, rule in zip(cases["index"].astype(int), cases["column"], cases["check"].astype(str)):
        named, several, text = rule.partition("|")
        column, rule = (named, text) if several else (column, rule)
        found[row, bool(several), frame.columns.get_loc(column)] = rule
    (row, _, place), rule = min(found.items())
    value = frame.iat[row, place]
    shown = "" if pd.isna(value) else f"{value:.15g}" if isinstance(value, float) else str(value)
    rule = "must not be empty" if rule == "not_nullable" or shown == "" else rule
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return DataError(f"{path}:{lines[row]}: column '{frame.columns[place]}': value {shown[:60]!r} "
                     f"is not allowed: {rule}{more}")
