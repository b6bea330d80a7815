"""Registries when they are used: names and aliases of models, devices and tasks, and traits of architectures.

``data/build/registry.py`` makes the tables.
"""
from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

FIGURES = ["params_m", "macs_m", "macts_m", "size_mib"]
_INDEX: list = []  # rows of the tables that traits() last saw, by model


def read(path: Path) -> pd.DataFrame:
    """CSV with every cell a text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def lookup(registry: pd.DataFrame, key: str) -> dict[str, str]:
    """Every identifier and alias of a registry -> its row; an alias ``source:name`` is of that source alone.

    Raises ValueError if one name belongs to two rows.
    """
    names = {row: row for row in registry[key]}
    for row, aliases in zip(registry[key], registry["aliases"].fillna("")):
        for name in filter(None, aliases.split("|")):
            if names.setdefault(name, row) != row:
                raise ValueError(f"registry {key}: '{name}' belongs to '{names[name]}' and to '{row}'")
    return names


def canonical_shape(text: str) -> str:
    """Image sizes written ``HxW`` get their three channels; every other shape is returned as it is."""
    numbers = re.fullmatch(r"(\d+)x(\d+)", text or "")
    return text + "x3" if numbers and all(96 <= int(n) <= 4096 for n in numbers.groups()) else text or ""


def area(shape: str) -> float | None:
    """Height times width of an image shape ``HxWxC`` with one or three channels, else None."""
    match = re.fullmatch(r"(\d+)x(\d+)x[13]", canonical_shape(shape))
    return float(match[1]) * float(match[2]) if match else None


def traits(models: pd.DataFrame, shapes: pd.DataFrame, model_id: str, input_shape: str = "") -> dict:
    """``params_m, macs_m, macts_m, size_mib`` (floats or None) of an architecture at one input shape.

    Figures of that shape where there are. MACs and activations of convolutional networks are else scaled from
    the image size nearest in area by the ratio of height times width; ``provenance`` then says ``computed``.
    No shape means the reference shape of the registry. Raises ValueError for an unknown architecture.
    """
    if not (_INDEX and _INDEX[0] is models and _INDEX[1] is shapes):
        rows: dict[str, list[dict]] = defaultdict(list)
        for row in shapes.to_dict("records"):
            rows[row["model_id"]].append(row)
        _INDEX[:] = models, shapes, {r["model_id"]: r for r in models.to_dict("records")}, rows
    base, known = _INDEX[2].get(model_id), _INDEX[3].get(model_id, [])
    if base is None:
        raise ValueError(f"models.csv: no architecture '{model_id}'")
    shape = canonical_shape(input_shape) or base["input_shape"]
    same = base if shape == base["input_shape"] else {}
    exact = next((r for r in known if r["input_shape"] == shape), same)
    out: dict[str, object] = {c: _number(exact.get(c)) for c in FIGURES}
    out |= {c: out[c] or _number(base[c]) for c in ("params_m", "size_mib")}
    out |= {"input_shape": shape, "provenance": exact.get("provenance") or base["provenance"]}
    here = area(str(shape)) if base["architecture"] == "cnn" else None
    for column in ("macs_m", "macts_m") if here else ():
        stated = [(a, v) for r in known if (a := area(str(r["input_shape"]))) and (v := _number(r[column]))
                  and r["input_shape"][-2:] == shape[-2:]]  # as many channels
        if out[column] is None and stated:
            nearest, value = min(stated, key=lambda item: max(item[0] / here, here / item[0]))
            out[column], out["provenance"] = value * here / nearest, "computed:scaled by height times width"
    return out


def _number(cell: object) -> float | None:
    return float(cell) if cell not in (None, "") and cell == cell else None
