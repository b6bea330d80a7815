"""Schemas of every table of ``data/`` (pandera), built from the data dictionary, and the reader of tables.

``data/columns.csv`` is the dictionary: which table has which column, of what type, under what rule, and its
meaning. A cell that a source does not state is empty in the file and NaN in the table.
"""
from __future__ import annotations

import csv
import difflib
import re
from contextlib import suppress
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
    if kind == "pattern":  # cells repeat: match each distinct text once
        matches = re.compile(rule).fullmatch
        return pa.Check(lambda cells: cells.isin(list(filter(matches, cells.unique()))), error=f"must match {rule}")

    def inside(cells: pd.Series) -> pd.Series:
        holds = cells.abs().lt(np.inf) & (cells.mod(1).eq(0) if kind == "count" else True)
        for sign, limit in (part.split() for part in rule.split(", ") if part):
            holds &= {">": cells.gt, ">=": cells.ge, "<=": cells.le}[sign](float(limit))
        return holds

    noun = "whole" if kind == "count" else "finite"
    return pa.Check(inside, error=f"must be a {noun} number" + (f" and {rule}" if rule else ""))


def _row_check(names: list[str], rule: str, holds: Callable[[pd.DataFrame], pd.Series]) -> pa.Check:
    """Rule over several columns; it holds where one of them is empty or absent."""
    return pa.Check(lambda f: f.reindex(columns=names).isna().any(axis=1) | holds(f.reindex(columns=names)),
                    error=f"{names[0]}|{rule}")


_LIMITS = {"%": 100, "fraction": 1}
_RANGE = _row_check(["latency_ms", "latency_min_ms", "latency_max_ms"], "must lie between latency_min_ms and latency_max_ms",
                    lambda f: f["latency_ms"].between(f["latency_min_ms"], f["latency_max_ms"]))
_UNIT = _row_check(["value", "unit"], "must lie between 0 and 100 % (0 and 1 as a fraction)",
                   lambda f: ~f["unit"].isin(_LIMITS) | f["value"].between(0, f["unit"].map(_LIMITS)))
_ROW_CHECKS = {"measurements": [_RANGE], "accuracies": [_UNIT], "transfer/accuracies": [_UNIT]}


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
        once = pa.Check(lambda f, key=key: ~f.duplicated([c for c in key if c in f] or None),
                        error=f"{(key or list(fields))[0]}|{same}")
        checks = [*_ROW_CHECKS.get(table, []), once]
        schemas[f"{table}.csv"] = pa.DataFrameSchema(fields, checks=checks, name=table, strict=True)
    schemas["transfer/accuracies_more.csv"] = schemas["transfer/accuracies.csv"]
    return schemas


#: Schema of each table, by folder/file where a folder has its own layout, else by file name.
SCHEMAS = _schemas(paths.DATA / "columns.csv")
MEASUREMENTS, ACCURACIES, DEVICES, TRANSFER, SOURCES = (SCHEMAS[f"{table}.csv"] for table in (
    "measurements", "accuracies", "devices", "transfer/accuracies", "registry/sources"))


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
        types = {c: str if is_text(schema.columns[c]) else float for c in columns}
        if not validate:
            with suppress(ValueError):  # a cell that is no number: the checks below say which
                return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
        rows, lines = _rows(path, len(columns))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    frame = pd.DataFrame(rows, columns=columns, dtype="str").replace("", None)
    numbers = frame[[c for c in columns if types[c] is float]]
    wrong = numbers.notna() & numbers.apply(pd.to_numeric, errors="coerce").isna()
    if wrong.any(axis=None):
        cases = wrong.stack().loc[lambda cell: cell].index.to_frame(name=["index", "column"])
        raise first_failure(path, cases.assign(check="must be a number"), frame, lines)
    return checked(frame.astype(types), schema.select_columns(columns), path, lines)


def checked(frame: pd.DataFrame, schema: pa.DataFrameSchema, path: str | Path, lines: Sequence[int]) -> pd.DataFrame:
    """The frame if it keeps its schema, else a DataError; ``lines``: where in the file each row begins."""
    try:
        return schema.validate(frame, lazy=True)
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
            shipped = any(schema is one for one in SCHEMAS.values())
            allowed = "columns.csv lists those it has" if shipped else f"allowed: {', '.join(schema.columns)}"
            near = hint(column, schema.columns, allowed)
            raise DataError(f"{path}:1: column {column[:40]!r} is unknown in {schema.name}: {near}")
    missing = [c for c in required if c not in columns]
    if missing or len(set(columns)) < len(columns):
        problem = f"'{missing[0]}' is missing" if missing else "names must differ, one is given twice"
        raise DataError(f"{path}:1: column {problem}")
    return columns


def _rows(path: Path, width: int) -> tuple[list[list[str]], list[int]]:
    """Cells of every row and the line at which it begins; stops at the first row that is not ``width`` cells wide."""
    rows, lines, line = [], [], 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if row and len(row) != width:
                    raise DataError(f"{path}:{line}: the row has {len(row)} cells, the header {width}")
                if row:
                    rows.append(row)
                    lines.append(line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{line}: this is not CSV: {error}") from None
        except UnicodeDecodeError:
            raise DataError(f"{path}: line {line} or one soon after it is not UTF-8 text") from None
    return rows[1:], lines[1:]


def first_failure(path: str | Path, cases: pd.DataFrame, frame: pd.DataFrame, lines: Sequence[int]) -> DataError:
    """The first of pandera's failure cases, as an error; ``lines``: where each row of the frame begins."""
    found = {}  # pandera reports a rule over several columns once for each of them; the rule names one: 'column|rule'
    for row, column, rule in zip(cases["index"].astype(int), cases["column"], cases["check"].astype(str)):
        named, several, text = rule.partition("|")
        column, rule = (named, text) if several else (column, rule)
        found[row, bool(several), frame.columns.get_loc(column)] = rule
    (row, _, place), rule = min(found.items())
    column, value = frame.columns[place], frame.iat[row, place]
    shown = "" if pd.isna(value) else f"{value:.15g}" if isinstance(value, float) else str(value)
    rule = "must not be empty" if rule == "not_nullable" or shown == "" else rule
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return DataError(f"{path}:{lines[row]}: column '{column}': value {shown[:60]!r} is not allowed: {rule}{more}")
