"""What must be known of a published figure before it is used: kind, flags and exclusions, computed at load.

The fact tables stay as published. ``data/registry/quirks.csv`` holds one rule per quirk: rows of ``source``
(``*``: any) whose ``columns`` match ``pattern`` carry ``flag``; rules without a pattern are computed here.
``effect`` says what a flag forbids: ``row`` (never ranked), or ``memory``, ``storage``, ``energy`` (that
figure is not used). Figures of different ``kind`` are never pooled. ``table.flags`` is an attribute of every
DataFrame: write ``table["flags"]``.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Mapping

import numpy as np
import pandas as pd

from lib import paths

#: Meaning of the time or rate in a row.
KINDS: dict[str, str] = {
    "latency": "time of one inference with nothing else in flight",
    "pipelined_throughput": "inferences a second with several in flight: not the inverse of a latency",
    "end_to_end_latency": "time of one inference including pre- or post-processing on the host",
    "end_to_end_throughput": "inferences a second including pre- and post-processing on the host",
    "none": "neither a time nor a rate is published (a real-time factor stands in the note)",
}
#: Columns that an effect empties.
UNUSABLE: dict[str, list[str]] = {
    "memory": ["ram_kib", "ram_internal_kib", "ram_external_kib", "ram_activation_kib", "ram_runtime_kib"],
    "storage": ["flash_kib", "flash_weights_kib", "flash_code_kib"],
    "energy": ["energy_uj", "power_mw"],
}
WIDE_SPREAD = 5.0  # slowest run over fastest run
CHANCE = 1.05  # accuracy over that of guessing, up to which a run counts as no better


@cache
def _all_rules(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def rules(table: str, effect: str | None = None) -> pd.DataFrame:
    """Rules on ``measurements`` or ``accuracies``; with ``effect`` only those that forbid something."""
    found = _all_rules(paths.REGISTRY / "quirks.csv")
    return found[found["table"].eq(table) & (found["effect"].eq(effect) if effect is not None else True)]


def meanings(table: str) -> dict[str, str]:
    """Vocabulary of the flags of ``measurements`` or ``accuracies``, in their order, with what each says."""
    return dict(rules(table)[["flag", "meaning"]].drop_duplicates("flag").itertuples(index=False))


def _flags(frame: pd.DataFrame, table: str, computed: Mapping[str, pd.Series]) -> pd.Series:
    """Flags of every row joined by ``|``, in the order of the vocabulary."""
    names = list(meanings(table))
    bits = np.zeros(len(frame), np.int64)
    rows_of = dict(frame.groupby("source").indices) | {"*": np.arange(len(frame))}
    for (source, columns), group in rules(table).groupby(["source", "columns"], sort=False):
        known = source in rows_of and set(columns.split()) <= set(frame.columns)
        if not known or not group["pattern"].all():
            continue
        rows = rows_of[source]
        first, *rest = (frame[c].iloc[rows].fillna("").astype(str) for c in columns.split())
        # Patterns are matched against distinct texts only: notes repeat thousands of times.
        codes, distinct = pd.factorize(first.str.cat(rest, sep=" ") if rest else first)
        for rule in group.itertuples():
            hit = pd.Series(distinct, dtype=str).str.contains(rule.pattern).to_numpy(np.int64)
            bits[rows] |= hit[codes] << names.index(rule.flag)
    for flag, mask in computed.items():
        bits |= mask.fillna(False).to_numpy(bool).astype(np.int64) << names.index(flag)
    present, inverse = np.unique(bits, return_inverse=True)
    joined = ["|".join(n for i, n in enumerate(names) if b >> i & 1) for b in present.tolist()]
    return pd.Series(np.array(joined, object)[inverse], index=frame.index, dtype=str)


def has(frame: pd.DataFrame, *flags: str) -> pd.Series:
    """Mask of the rows that carry at least one of ``flags``."""
    codes, distinct = pd.factorize(frame["flags"])
    hit = np.array([not set(flags).isdisjoint(text.split("|")) for text in distinct], bool)
    return pd.Series(hit[codes], index=frame.index, dtype=bool)


def add_flags(measurements: pd.DataFrame) -> pd.DataFrame:
    """Copy of the measurements with ``kind`` (KINDS), ``flags`` (``|`` between) and ``excluded`` (bool)."""
    wide = measurements["latency_max_ms"] > WIDE_SPREAD * measurements["latency_min_ms"]
    frame = measurements.assign(flags=_flags(measurements, "measurements", {"wide_spread": wide}))
    timed, rated = frame["latency_ms"].notna(), frame["throughput_ips"].notna()
    vitis = frame["source"].eq("vitis")
    kind = np.select(
        [timed & (vitis | has(frame, "post_processing")), timed, rated & vitis, rated],
        ["end_to_end_latency", "latency", "end_to_end_throughput", "pipelined_throughput"], "none")
    return frame.assign(kind=pd.Series(kind, index=frame.index, dtype=str),
                        excluded=has(frame, *rules("measurements", "row")["flag"]))


def add_accuracy_flags(accuracies: pd.DataFrame) -> pd.DataFrame:
    """Copy of an accuracy table (of a source, or of ``transfer``) with columns ``flags`` and ``excluded``."""
    computed = {}
    if "target_dataset" in accuracies:
        guess = 100 / accuracies["n_classes"].astype(float)
        computed["chance_level"] = accuracies["unit"].eq("%") & (accuracies["value"] <= CHANCE * guess)
        computed["seen_target"] = accuracies["pretrain_dataset"].eq(accuracies["target_dataset"])
    frame = accuracies.assign(flags=_flags(accuracies, "accuracies", computed))
    return frame.assign(excluded=has(frame, *rules("accuracies", "row")["flag"]))


def without_unusable(measurements: pd.DataFrame) -> pd.DataFrame:
    """Copy of flagged measurements without the memory, storage and energy figures that their flags forbid."""
    frame = measurements.copy()
    for effect, columns in UNUSABLE.items():
        frame.loc[has(frame, *rules("measurements", effect)["flag"]), columns] = np.nan
    return frame
