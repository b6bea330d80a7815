"""A board of one's own: its data sheet (YAML) and its measurements, added to one's own copy of the tables."""
from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from lib import paths, registry, schema
from lib.schema import ACCURACIES, DEVICES, MEASUREMENTS, DataError
from lib.sources import LINE, Reading, Rows, benchncnn, own_csv, read_text

SOURCE = "own"
Board = dict[str, str | float]


def _line(text: str, pattern: str) -> int:
    """Number of the first line that begins so."""
    return next((i for i, line in enumerate(text.splitlines(), 1) if re.match(pattern, line)), 1)


def read_board(path: str | Path, named: bool = True) -> Board:
    """Fields of a board's YAML: any of the columns of ``devices.csv``, ``device_id`` among them if ``named``.

    DataError if it is no YAML mapping, or a field is unknown or has a value that the column does not allow.
    """
    text, rows, board = read_text(path), Rows(SOURCE, path), {}
    for name, value in rows.yaml(text).items():
        if name == LINE:
            continue
        line, rule = _line(text, rf"""["']?{re.escape(str(name))}["']?\s*:"""), DEVICES.columns.get(name)
        if rule is None:
            hint = schema.hint(str(name), DEVICES.columns, f"allowed: {', '.join(DEVICES.columns)}")
            raise rows.error(line, f"field {str(name)[:40]!r} is unknown: {hint}")
        if value is None or isinstance(value, (bool, dict, list)):
            raise rows.error(line, f"field '{name}': {str(value)[:40]!r} is neither text nor a number")
        text_cell = schema.is_text(rule)
        cell = " ".join(str(value).split()) if text_cell else rows.number(line, value, name)
        if cell is not None:
            frame = pd.DataFrame({name: [cell]}).astype(str if text_cell else float)
            schema.checked(frame, DEVICES.select_columns([name]), path, [line])
            board[name] = cell
    if named and not board.get("device_id"):
        raise rows.error(1, "field 'device_id' is missing: a name such as my_board_1")
    return board


def read_measurements(path: str | Path, board: Board, data: str | Path = paths.DATA) -> Reading:
    """What a file in the format of ``benchncnn`` or :mod:`lib.sources.own_csv` measured on a board."""
    text, models = read_text(path), registry.read(Path(data) / "registry" / "models.csv")
    name = board.get("device_id") or "this_board"
    device = {"device_id": name, "device_name": board.get("device_name", name)}
    if re.search(r"^\s*loop_count\s*=|\bmin\s*=.*\bavg\s*=", text, re.M):
        reading = benchncnn.read(text, str(path), SOURCE, **device)
    else:
        processor = "mcu" if board.get("device_class") == "mcu" else "cpu"
        reading = own_csv.read(str(path), dict(zip(models["model_id"], models["task_type"])), processor, **device)
    names = registry.lookup(models, "model_id")
    for name, model in zip(reading.measurements["model_name"], reading.measurements["model_id"]):
        if model not in names:
            hint = schema.hint(model, names, "registry/models.csv lists those known")
            raise DataError(f"{path}:{_line(text, rf'.*{re.escape(name)}')}: network {name[:60]!r} is unknown: {hint}")
    return Reading(*(table.assign(model_id=table["model_id"].map(names)) for table in reading))


def add_device(board: str | Path, measurements: str | Path, data: str | Path = paths.DATA) -> Reading:
    """Add a board and its measurements to the tables in ``data`` (a new folder: a copy of the shipped ones).

    Everything is checked before anything is written, and each table is replaced in one step, the measurements last.
    Adding a board again replaces its data sheet, and the figures of what is measured again. Returns the rows that were
    added. DataError as of the functions above; or ``device_id`` is a published board's; or ``data`` cannot be written.
    """
    data, device = Path(data), read_board(board)
    try:
        if not data.exists():
            copy = data.with_name(f".{data.name}.{os.getpid()}")
            shutil.copytree(paths.DATA, copy, ignore=shutil.ignore_patterns("build", "__pycache__"))
            os.replace(copy, data)
        reading, place = read_measurements(measurements, device, data), data / "registry" / "devices.csv"
        devices = registry.read(place)
        earlier = devices["device_id"].eq(registry.lookup(devices, "device_id").get(device["device_id"], ""))
        if not devices["provenance"][earlier].str.startswith(f"device_id=published:{SOURCE}").all():
            raise DataError(f"{board}: device_id '{device['device_id']}' is a published board: rename yours")
        tables = {place: pd.concat([devices[~earlier], _entry(device, devices)])}
        new = {"devices": (DEVICES, pd.DataFrame([device], columns=list(DEVICES.columns))),
               "accuracies": (ACCURACIES, reading.accuracies), "measurements": (MEASUREMENTS, reading.measurements)}
        for name, (rules, rows) in new.items():
            path = data / "facts" / SOURCE / f"{name}.csv"
            old = [schema.read_table(path, rules).astype(object)] if path.exists() else []
            settings = [c for c, rule in rules.columns.items() if c == "threads" or schema.is_text(rule)
                        and c not in ("source_ref", "runtime_version", "date", "note")]
            tables[path] = pd.concat([*old, rows.astype(object)]).drop_duplicates(
                "device_id" if name == "devices" else settings, keep="last")
        with ExitStack() as moves:  # each is written beside its place; then the first of the tables is moved first
            for path, table in reversed(tables.items()):
                path.parent.mkdir(parents=True, exist_ok=True)
                table.to_csv(moves.enter_context(paths.written(path)), index=False, lineterminator="\n")
    except OSError as error:
        raise DataError(f"{data}: cannot be written: {error.strerror or error}") from None
    return reading


def _entry(device: Board, devices: pd.DataFrame) -> pd.DataFrame:
    """Row of the registry; boards of one chip share a group, so that no evaluation splits them."""
    fields = {c: f"{v:.15g}" if isinstance(v, float) else str(v) for c, v in device.items()}
    fields["provenance"] = ";".join(f"{c}=published:{SOURCE}" for c in {"device_id": ""} | device)
    twins = devices["soc_group"][devices["soc"].str.lower().eq(fields.get("soc", "none").lower())]
    fields["soc_group"] = twins.iloc[0] if len(twins) else device["device_id"]
    return pd.DataFrame([dict.fromkeys(devices.columns, "") | fields])[devices.columns]
