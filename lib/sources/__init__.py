"""Readers: what others publish -> rows of the fact tables (:mod:`lib.schema`). One upstream format a file.

A reader is a function of a text and the name of its file. What it does not fully understand (cut text, other
units, unknown columns, repeated rows, figures out of range) it refuses with one
:class:`lib.schema.DataError`, ``file:line: what is wrong``.
"""
from __future__ import annotations

import codecs
import re
from functools import cache
from pathlib import Path
from typing import Mapping, NamedTuple

import pandas as pd
import pandera.pandas as pa

from lib import paths, schema
from lib.schema import ACCURACIES, MEASUREMENTS, DataError

LIMIT_MIB = 20
#: Published words of number formats; formats that differ between layers are ``mixed``.
PRECISIONS = {p: p for p in ("fp32", "fp16", "bf16", "int8", "int16", "w8a16", "w4a16", "mixed")} | {
    "float": "fp32", "float32": "fp32", "torch": "fp32", "w8a8": "int8", "w16a16": "int16"}
_MIXED = re.compile(r"w\d+a\d+|.*mixed.*|.+/.+|w4w8.*|hybrid")


class Reading(NamedTuple):
    """Rows that a text holds, in the columns of the two fact tables."""

    measurements: pd.DataFrame
    accuracies: pd.DataFrame


def read_text(path: str | Path) -> str:
    """Text of a file in UTF-8 (or UTF-16 with its mark, as some consoles write); DataError if it is none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LIMIT_MIB * 2**20 + 1)
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = raw.decode("utf-16" if wide else "utf-8-sig") if len(raw) <= LIMIT_MIB * 2**20 else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = "\0"
    if text is None:
        raise DataError(f"{path}: the file is larger than {LIMIT_MIB} MiB")
    if re.search("[\0-\b\x0e-\x1a]", text):
        raise DataError(f"{path}: this is not a text file in UTF-8")
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return text


def slug(name: str) -> str:
    """``Dragonwing IQ-9075 EVK`` -> ``dragonwing_iq_9075_evk``; a dot stays between digits only."""
    return re.sub(r"(?:[^a-z0-9.]|(?<!\d)\.|\.(?!\d))+", "_", name.lower()).strip("_")


def is_text(column: pa.Column) -> bool:
    """Whether a column holds text; it holds numbers else."""
    return "float" not in str(column.dtype)


@cache
def known(source: str, facts: Path = paths.FACTS) -> Mapping[str, Mapping[str, str]]:
    """Networks that a source published before: name -> ``model_id, task_type, dataset, input_shape``."""
    columns = ["model_name", "model_id", "task_type", "dataset", "input_shape"]
    rows = pd.read_csv(facts / source / "measurements.csv", usecols=columns, dtype=str, keep_default_na=False)
    return rows.drop_duplicates("model_name").set_index("model_name").to_dict("index")


def identify(source: str, name: str, *more: str) -> dict[str, str]:
    """``model_name, model_id, task_type`` and ``more`` columns of a network; a new one is ``other``."""
    row = known(source).get(name, {"model_id": slug(name), "task_type": "other"})
    return {"model_name": name} | {c: row.get(c, "") for c in ("model_id", "task_type", *more)}


def check(frame: pd.DataFrame, table: pa.DataFrameSchema, file: str, lines: list[int]) -> pd.DataFrame:
    """The frame if it keeps its schema; DataError on the first row that does not, with its line."""
    try:
        return table.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise schema.first_failure(file, error.failure_cases, frame, lines) from None


class Rows:
    """Rows read from one file so far, each with its line."""

    def __init__(self, source: str, file: str | Path) -> None:
        self.source, self.file = source, str(file)
        self.measured: list[tuple[int, dict]] = []
        self.scored: list[tuple[int, dict]] = []
        self.seen: dict[tuple, int] = {}

    def error(self, line: int, message: str) -> DataError:
        return DataError(f"{self.file}:{line}: {message}")

    def number(self, line: int, cell: str, column: str, unit: str = "") -> float | None:
        """Figure of a cell, which may end in ``unit``; None where the cell says that there is none."""
        text = re.sub(rf"(\s*{re.escape(unit)})+$" if unit else r"\s+$", "", cell.strip())
        if text in ("", "-", "NA", "N/A"):
            return None
        if not re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d+)?", text, re.I):
            raise self.error(line, f"{column}: {cell[:40]!r} is not a number" + f" in {unit}" * bool(unit))
        return float(text)

    def precision(self, line: int, name: str) -> dict[str, str]:
        """``precision`` and ``precision_name``."""
        word = name.strip().lower()
        if word not in PRECISIONS and not _MIXED.fullmatch(word):
            raise self.error(line, f"precision {name[:40]!r} is unknown (allowed: {', '.join(PRECISIONS)})")
        return {"precision": PRECISIONS.get(word, "mixed"), "precision_name": name.strip()}

    def add(self, line: int, **cells: object) -> None:
        """Add a measurement, or an accuracy if there is a ``metric``; no two rows differ in figures alone."""
        rows, table = (self.scored, ACCURACIES) if "metric" in cells else (self.measured, MEASUREMENTS)
        settings = {c: v for c, v in cells.items() if isinstance(v, str) or c in ("threads", "batch_size")}
        first = self.seen.setdefault((table.name, *sorted(settings.items(), key=str)), line)
        if first != line:
            raise self.error(line, f"{cells['model_name']} repeats line {first} with the same settings")
        rows.append((line, {"source": self.source, "source_ref": Path(self.file).name} | cells))

    def reading(self) -> Reading:
        """Every row, checked against its schema."""
        if not self.measured and not self.scored:
            raise DataError(f"{self.file}: no result found: the text is cut, or of another format")
        frames = []
        for rows, table in ((self.measured, MEASUREMENTS), (self.scored, ACCURACIES)):
            frame = pd.DataFrame([cells for _, cells in rows], columns=list(table.columns), dtype=object)
            frame = frame.replace("", None).astype({c: str(rule.dtype) for c, rule in table.columns.items()})
            frames.append(check(frame, table, self.file, [line for line, _ in rows]))
        return Reading(*frames)
