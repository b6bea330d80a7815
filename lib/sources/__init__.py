"""Readers: what others publish -> rows of the fact tables (:mod:`lib.schema`). One upstream format a file.

A reader is a function of a text and the name of its file. What it does not fully understand (cut text, other units, unknown
columns, repeated rows, figures out of range) it refuses with one :class:`lib.schema.DataError`, ``file:line: what is wrong``.
"""
from __future__ import annotations

import codecs
import re
from functools import cache
from pathlib import Path
from typing import Iterable, Iterator, Mapping, NamedTuple

import pandas as pd
import yaml

from lib import paths
from lib.schema import ACCURACIES, MEASUREMENTS, DataError, checked, is_text

LIMIT_MIB = 20
#: Words of the sources and what the tables call them.
WORDS = yaml.safe_load((Path(__file__).parent / "vocabulary.yaml").read_text(encoding="utf-8"))
_MIXED = re.compile(r"w\d+a\d+|.*mixed.*|.+/.+|w4w8.*|hybrid")  # formats that differ between layers
#: Last word of a column's name -> unit of its figures in a text.
UNITS = {"ms": "ms", "mhz": "MHz", "kib": "KiB"}
#: Rows of a table in a text, the names of its columns first: line, and a text for each cell.
Table = list[tuple[int, list[str]]]
#: Key of the line at which a mapping of :meth:`Rows.yaml` begins.
LINE = "__line__"


class Reading(NamedTuple):
    """Rows that a text holds, in the columns of the two fact tables."""

    measurements: pd.DataFrame
    accuracies: pd.DataFrame


def read_text(path: str | Path) -> str:
    """Text of a file in UTF-8 (or UTF-16 with its mark, as some consoles write); DataError if it is none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(LIMIT_MIB * 2**20 + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LIMIT_MIB * 2**20:
        raise DataError(f"{path}: the file is larger than {LIMIT_MIB} MiB")
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    if re.search("[\0-\b\x0e-\x1a\ufffd]", text):
        raise DataError(f"{path}: this is not a text file in UTF-8")
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    return text


def slug(name: str) -> str:
    """``Dragonwing IQ-9075 EVK`` -> ``dragonwing_iq_9075_evk``; a dot stays between digits only."""
    return re.sub(r"(?:[^a-z0-9.]|(?<!\d)\.|\.(?!\d))+", "_", name.lower()).strip("_")


@cache
def known(source: str) -> Mapping[str, Mapping[str, str]]:
    """Networks that a source published before: name -> ``model_id, task_type, dataset, input_shape``."""
    columns = ["model_name", "model_id", "task_type", "dataset", "input_shape"]
    rows = pd.read_csv(paths.FACTS / source / "measurements.csv", usecols=columns, dtype=str, keep_default_na=False)
    return rows.drop_duplicates("model_name").set_index("model_name").to_dict("index")


def identify(source: str, name: str, *more: str) -> dict[str, str]:
    """``model_name, model_id, task_type`` and ``more`` columns of a network; a new one is ``other``."""
    row = known(source).get(name, {"model_id": slug(name), "task_type": "other"})
    return {"model_name": name} | {c: row.get(c, "") for c in ("model_id", "task_type", *more)}


class _Loader(yaml.SafeLoader):
    """YAML whose mappings know their line; repeated keys and references are refused."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="references are not allowed", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = [str(key.value) for key, _ in node.value]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise yaml.MarkedYAMLError(problem=f"'{name}' is given twice", problem_mark=node.value[place][0].start_mark)
        return super().construct_mapping(node, deep) | {LINE: node.start_mark.line + 1}


class Rows:
    """Rows read from one file so far: for each of the two tables, settings -> line and cells."""

    def __init__(self, source: str, file: str | Path) -> None:
        self.source, self.file = source, str(file)
        self.found: tuple[dict[tuple, tuple[int, dict]], ...] = {}, {}

    def error(self, line: int, message: str) -> DataError:
        return DataError(f"{self.file}:{line}: {message}")

    def translate(self, line: int, what: str, word: str, allowed: Mapping[str, str]) -> str:
        """What the tables call a word of the source."""
        if word not in allowed:
            raise self.error(line, f"{what} {word[:40]!r} is unknown (allowed: {', '.join(allowed)})")
        return allowed[word]

    def yaml(self, text: str) -> dict:
        """Mapping of a YAML text; every mapping in it has its line under :data:`LINE`."""
        try:
            content = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise self.error(mark.line + 1 if mark else 1, f"this is not (whole) YAML: {problem}") from None
        if not isinstance(content, dict):
            raise self.error(1, "YAML with lines 'name: value' is needed")
        return content

    def number(self, line: int, cell: object, column: str, unit: str = "") -> float | None:
        """Figure of a cell, which may end in its unit; None where the cell says that there is none."""
        unit = unit or UNITS.get(column.rpartition("_")[2], "")
        text = re.sub(rf"(\s*{re.escape(unit)})+$" if unit else r"\s+$", "", str(cell).strip())
        if text in ("", "-", "NA", "N/A", "None"):
            return None
        if not re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d{1,2})?", text, re.I):
            raise self.error(line, f"{column}: {str(cell)[:40]!r} is not a number" + (f" in {unit}" if unit else ""))
        return float(text)

    def records(self, table: Table, columns: Mapping[str, str], needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Line and cells of each row; ``columns``: start of a column's name -> cell, the first that fits."""
        (line, names), *body = table
        header = [self._column(line, name, columns) for name in names]
        if missing := [cell for cell in needed if cell not in header]:
            raise self.error(line, f"no column for '{missing[0]}'")
        for line, cells in body:
            if len(cells) != len(header):
                raise self.error(line, f"the row is cut: it has {len(cells)} cells, the header {len(header)}")
            yield line, dict(zip(header, cells))

    def _column(self, line: int, name: str, columns: Mapping[str, str]) -> str:
        start = next((s for s in columns if re.match(rf"{re.escape(s)}(?!\w)", name, re.I)), None)
        if start is None:
            raise self.error(line, f"column {name[:40]!r} is unknown")
        cell, stated = columns[start], re.search(r"\((.*?)\)", name[len(start):])
        unit = UNITS.get(cell.rpartition("_")[2])
        if unit and stated and stated[1] != unit or cell == "latency_ms" and not stated:
            raise self.error(line, f"column {name[:40]!r}: the unit must be {unit}")
        return cell

    def add(self, line: int, **cells: object) -> None:
        """Add a measurement, or an accuracy if there is a ``metric`` (and a value); figures may be texts.

        ``precision`` follows from ``precision_name`` if it is not given. No two rows differ in figures alone.
        """
        cells = {"source": self.source, "source_ref": Path(self.file).name} | cells
        if "precision" not in cells:
            name, words = cells["precision_name"].strip(), WORDS["precisions"]
            mixed = {name: "mixed"} if _MIXED.fullmatch(name.lower()) else {}
            found = {name: words[name.lower()]} if name.lower() in words else mixed
            cells["precision"] = self.translate(line, "precision", name, found or words)
        scored = "metric" in cells
        table, rows, settings = (MEASUREMENTS, ACCURACIES)[scored], self.found[scored], []
        for column, rule in table.columns.items():
            if not is_text(rule):
                unit = cells["unit"] if column == "value" else ""
                cells[column] = self.number(line, cells.get(column), column, unit)
            if is_text(rule) or column in ("threads", "batch_size"):
                settings.append(cells.get(column))
        if scored and cells["value"] is None:
            return
        if (first := rows.get(tuple(settings))) is not None:
            raise self.error(line, f"{cells['model_name']} repeats line {first[0]} with the same settings")
        rows[tuple(settings)] = line, cells

    def reading(self) -> Reading:
        """Every row, checked against its schema."""
        if not any(self.found):
            raise DataError(f"{self.file}: no result found: the text is cut, or of another format")
        frames = []
        for table, rows in zip((MEASUREMENTS, ACCURACIES), self.found):
            lines, cells = [line for line, _ in rows.values()], [cells for _, cells in rows.values()]
            frame = pd.DataFrame(cells, columns=list(table.columns), dtype=object).replace("", None)
            frame = frame.astype({c: str(rule.dtype) for c, rule in table.columns.items()})
            frames.append(checked(frame, table, self.file, lines))
        return Reading(*frames)
